// Attention by cuDNN: plans built once for a shape and kept, tables and workspace from the caching
// allocator. A plan that cannot be built leaves its shape to our own kernels, for good and with the
// reason kept; a plan that fails when it is run is an error.
#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "attention_choice.h"
#include "cudnn_attention_plan.h"
#include "cudnn_tables.h"
#include "devices.h"
#include "error_message.h"
#include "graph_capture.h"

namespace tempra::cuda {

namespace {

// A share of a device's memory that a plan's workspace may take: in order, gradients on Hopper need
// two bytes for each pair of a query and a key of a sequence.
constexpr std::int64_t kWorkspaceShare = 32;

struct Choice {
    std::atomic<bool> cudnn = true, deterministic = true;
    std::string problem;  // with TEMPRA_CUDA_ATTENTION

    Choice() {
        const char* const given = std::getenv("TEMPRA_CUDA_ATTENTION");
        if (given == nullptr || *given == '\0') return;
        const std::string name = given;
        cudnn = name == "cudnn";
        if (name != "cudnn" && name != "own") {
            problem = "attention: TEMPRA_CUDA_ATTENTION is " + name + "; it may be cudnn or own";
        }
    }
};

Choice& choice() {
    static auto* const made = new Choice;
    return *made;
}

struct Device {
    std::int32_t architecture = 0;
    std::int64_t most_workspace = 0;
    void* handle = nullptr;
    std::string problem;
    std::mutex running;  // a handle has one stream at a time
    std::map<CudnnAttentionShape, std::unique_ptr<CudnnAttentionPlan>> plans;  // null: our own
};

struct State {
    std::mutex mutex;
    std::map<int, Device> devices;
    std::vector<std::string> reasons;  // why plans were not built, the first few
    std::int64_t left_to_us = 0, built = 0;
};

State& state() {
    static auto* const made = new State;  // never destroyed, as cuDNN may be gone before us
    return *made;
}

void keep_reason(State& all, const std::string& reason) {
    constexpr std::size_t kMost = 3;
    ++all.left_to_us;
    for (const std::string& known : all.reasons) {
        if (known == reason) return;
    }
    if (all.reasons.size() < kMost) all.reasons.push_back(reason);
}

// Its architecture and memory are known afterwards, its handle where cuDNN has given one.
Device& device_of(State& all, const CudnnLibrary& library, int index) {
    const auto [at, is_new] = all.devices.try_emplace(index);
    Device& device = at->second;
    if (!is_new) return device;
    TempraCudaDeviceInfo info{};
    info.size = sizeof(info);
    if (device_info(index, &info) != TEMPRA_CUDA_OK) {
        device.problem = last_error();
    } else {
        device.architecture = 10 * info.compute_major + info.compute_minor;
        device.most_workspace = info.total_bytes / kWorkspaceShare;
        device.handle = cudnn_handle(library, device.problem);
    }
    if (device.handle == nullptr) keep_reason(all, device.problem);
    return device;
}

std::unique_ptr<CudnnAttentionPlan> build(State& all, const CudnnLibrary& library,
                                          const Device& device, const CudnnAttentionShape& shape) {
    std::string reason;
    auto plan = build_cudnn_attention(library, shape, device.handle, "", reason);
    if (plan != nullptr && plan->workspace_bytes() > device.most_workspace) {
        reason = "a workspace of " + std::to_string(plan->workspace_bytes() >> 20) +
                 " MiB, more than 1/" + std::to_string(kWorkspaceShare) + " of the device's memory";
        plan.reset();
    }
    if (plan == nullptr) {
        keep_reason(all, std::string(shape.backward ? "gradient" : "forward") + " of " +
                             std::to_string(shape.sequences) + " sequences of " +
                             std::to_string(shape.queries) + ", " + std::to_string(shape.heads) +
                             " heads of " + std::to_string(shape.head_dim) + ": " + reason);
    } else {
        ++all.built;
    }
    return plan;
}

struct Call {
    Device* device = nullptr;
    CudnnAttentionShape shape;
    const CudnnAttentionPlan* plan = nullptr;
};

// Handles and plans cannot be made while a stream is captured.
KernelStatus too_late() {
    return fail(kKernelFailed,
                "attention: cuDNN has no plan for these shapes yet; run the step once before it is "
                "captured");
}

// kKernelOk: `call` has a plan.
KernelStatus find_plan(const KernelContext& context, const AttentionArguments& a,
                       const AttentionBackwardArguments* b, Call& call) {
    Choice& chosen = choice();
    if (!chosen.problem.empty()) return fail(kKernelFailed, chosen.problem);
    if (!chosen.cudnn) return kOwnKernels;
    std::string reason;
    // What no architecture changes first: most calls in fp32 load nothing.
    if (cudnn_refusal(a, b, 90) != nullptr) return kOwnKernels;
    const CudnnLibrary* const library = cudnn_library(reason);
    if (library == nullptr) return kOwnKernels;
    const DeviceState* const current = current_device();
    if (current == nullptr) return kKernelFailed;
    State& all = state();
    const std::scoped_lock lock(all.mutex);
    if (!all.devices.contains(current->index) && is_captured(context.stream)) return too_late();
    Device& device = device_of(all, *library, current->index);
    if (device.handle == nullptr) return kOwnKernels;
    if (cudnn_refusal(a, b, device.architecture) != nullptr) return kOwnKernels;
    call.device = &device;
    call.shape = cudnn_attention_shape(a, b, device.architecture, chosen.deterministic);
    auto found = device.plans.find(call.shape);
    if (found == device.plans.end()) {
        if (is_captured(context.stream)) return too_late();
        found = device.plans.emplace(call.shape, build(all, *library, device, call.shape)).first;
    }
    call.plan = found->second.get();
    return call.plan != nullptr ? kKernelOk : kOwnKernels;
}

KernelStatus run(const KernelContext& context, const AttentionArguments& a,
                 const AttentionBackwardArguments* b, const Call& call) {
    const CudnnAttentionShape& shape = call.shape;
    const CudnnViews views = cudnn_views(a, b);
    CudnnPointers pointers{};
    CudnnTables tables;
    tables.offsets = a.offsets_q.as<const std::int32_t>();
    tables.offsets_stride = a.offsets_q.stride(0);
    tables.given = a.offsets_q.size(0) - 1;
    tables.sequences = shape.sequences;
    for (int tensor = 0; tensor < kCudnnRows; ++tensor) {
        const auto at = static_cast<std::size_t>(tensor);
        if (!cudnn_uses(shape, tensor)) continue;
        pointers[at] = views[at]->data;
        const bool is_statistics = tensor == kCudnnStatistics;
        tables.row_strides[static_cast<std::size_t>(tables.count++)] =
            is_statistics ? shape.heads : shape.row_strides[at];
    }
    std::optional<Scratch> table_block, statistics_block;
    if (shape.ragged) {
        table_block.emplace(CudnnTables::bytes(shape.sequences, tables.count), context.stream);
        if (!table_block->ok()) return kKernelOutOfMemory;
        tables.out = table_block->as<std::int32_t>();
        const KernelStatus status = make_cudnn_tables(context, tables);
        if (status != kKernelOk) return status;
        pointers[kCudnnLengthsQ] = pointers[kCudnnLengthsK] = tables.out;
        int number = 0;
        for (int tensor = 0; tensor < kCudnnRows; ++tensor) {
            if (!cudnn_uses(shape, tensor)) continue;
            pointers[static_cast<std::size_t>(kCudnnTables + tensor)] = tables.table(number++);
        }
    }
    CudnnStatistics statistics{tables.offsets,
                               tables.offsets_stride,
                               tables.given,
                               shape.heads,
                               a.q.size(0),
                               shape.ragged ? 0 : shape.queries,
                               a.log_sum_exp.as<float>()};
    // One sequence's log-sum-exps lie alike on both sides.
    const bool moves = a.log_sum_exp.present() && (shape.ragged || shape.sequences > 1);
    if (moves) {
        statistics_block.emplace(4 * shape.heads * a.q.size(0), context.stream);
        if (!statistics_block->ok()) return kKernelOutOfMemory;
        pointers[kCudnnStatistics] = statistics.theirs = statistics_block->as<float>();
        if (b != nullptr) {
            const KernelStatus status = move_statistics(context, statistics, true);
            if (status != kKernelOk) return status;
        }
    }
    std::optional<Scratch> workspace;
    if (call.plan->workspace_bytes() > 0) {
        workspace.emplace(call.plan->workspace_bytes(), context.stream);
        if (!workspace->ok()) return kKernelOutOfMemory;
    }
    {
        const std::scoped_lock lock(call.device->running);
        std::string problem = cudnn_set_stream(call.device->handle, context.stream);
        if (problem.empty()) {
            problem = call.plan->run(call.device->handle, pointers,
                                     workspace ? workspace->as<void>() : nullptr);
        }
        if (!problem.empty()) {
            return fail(kKernelFailed, "attention: cuDNN failed: " + problem +
                                           "; TEMPRA_CUDA_ATTENTION=own does without it");
        }
    }
    const char* const name = b == nullptr ? "attention (cuDNN)" : "attention_backward (cuDNN)";
    const KernelStatus status = finish_launch(name, context.stream);
    if (status != kKernelOk || !moves || b != nullptr) return status;
    return move_statistics(context, statistics, false);
}

KernelStatus find_and_run(const KernelContext& context, const AttentionArguments& a,
                          const AttentionBackwardArguments* b) try {
    Call call;
    const KernelStatus status = find_plan(context, a, b, call);
    return status == kKernelOk ? run(context, a, b, call) : status;
} catch (const std::exception& error) {
    return fail(kKernelFailed, std::string("attention: ") + error.what());
}

std::string describe() {
    Choice& chosen = choice();
    if (!chosen.problem.empty()) return chosen.problem;
    if (!chosen.cudnn) return "our own kernels, as chosen";
    std::string reason;
    const CudnnLibrary* const library = cudnn_library(reason);
    if (library == nullptr) return "our own kernels: " + reason;
    std::string line = library->name() + " (" + library->path + ")";
    if (!chosen.deterministic) line += ", sums of gradients in any order";
    State& all = state();
    const std::scoped_lock lock(all.mutex);
    if (all.left_to_us > 0) {
        line += "; " + std::to_string(all.built) + " plans, " + std::to_string(all.left_to_us) +
                " left to our own kernels";
        for (const std::string& why : all.reasons) line += "; " + why;
    }
    return line;
}

}  // namespace

KernelStatus attention_by_cudnn(const KernelContext& context, const AttentionArguments& a) {
    return find_and_run(context, a, nullptr);
}

KernelStatus attention_backward_by_cudnn(const KernelContext& context,
                                         const AttentionBackwardArguments& b) {
    return find_and_run(context, b.forward, &b);
}

TempraCudaStatus attention_choose(std::int32_t cudnn, std::int32_t deterministic) noexcept {
    if (cudnn >= 0) choice().cudnn = cudnn != 0;
    if (deterministic >= 0) choice().deterministic = deterministic != 0;
    return TEMPRA_CUDA_OK;
}

const char* attention_kernels() noexcept try {
    thread_local std::string line;
    line = describe();
    return line.c_str();
} catch (...) {
    return "unknown: out of memory";
}

}  // namespace tempra::cuda

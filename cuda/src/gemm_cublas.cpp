// Products by cuBLASLt. The algorithm for a product of given shapes, strides, alignments, dtypes
// and epilogue is cuBLASLt's first suggestion, asked for once: never chosen by timing, so that
// runs agree. Its split sums are added up in the workspace in a fixed order.
#include <array>
#include <map>
#include <mutex>
#include <vector>

#include "cublas_lt.h"
#include "devices.h"
#include "error_message.h"
#include "gemm_parts.h"
#include "gemm_plan.h"

namespace tempra::cuda {

namespace {

constexpr std::uint64_t kWorkspaceBytes = std::uint64_t{32} << 20;

// Destroys what was created, in any case.
class Described {
  public:
    explicit Described(int (*destroy)(void*)) : destroy_(destroy) {}
    ~Described() {
        if (handle != nullptr) destroy_(handle);
    }
    Described(const Described&) = delete;
    Described& operator=(const Described&) = delete;
    void* handle = nullptr;

  private:
    int (*destroy_)(void*);
};

struct Problem {
    GemmOperand first, second, result;  // b, a, c
    const void *first_data, *second_data, *added_data;
    void* result_data;
    std::int64_t added_stride;
    int operand_type, result_type;
    std::int64_t rows, columns, batches;  // of cuBLAS's result
    float beta;
    std::uint32_t epilogue;
    const void* bias;
    void* auxiliary;
    std::int64_t auxiliary_stride;
};

using Key = std::array<std::int64_t, 24>;

Key key_of(const Problem& p, int device) {
    const auto flag = [](bool value) { return std::int64_t{value ? 1 : 0}; };
    return {device,
            p.operand_type,
            p.result_type,
            p.rows,
            p.columns,
            p.batches,
            p.first.stored_rows,
            p.first.stored_columns,
            p.first.stride,
            p.first.batch_stride,
            p.second.stored_rows,
            p.second.stored_columns,
            p.second.stride,
            p.second.batch_stride,
            p.result.stride,
            p.result.batch_stride,
            p.added_stride,
            p.epilogue,
            p.auxiliary_stride,
            flag(p.first.transposed) + 2 * flag(p.second.transposed) + 4 * flag(p.beta != 0),
            alignment_of(p.first_data),
            alignment_of(p.second_data),
            alignment_of(p.result_data) * 512 + alignment_of(p.added_data),
            alignment_of(p.bias) * 512 + alignment_of(p.auxiliary)};
}

KernelStatus cublas_failed(const char* call, int status) {
    return fail(kKernelFailed,
                std::string("gemm: ") + call + " failed with status " + std::to_string(status));
}

struct Descriptions {
    explicit Descriptions(const CublasLt& lt)
        : product(lt.product_destroy),
          first(lt.layout_destroy),
          second(lt.layout_destroy),
          added(lt.layout_destroy),
          result(lt.layout_destroy) {}
    Described product, first, second, added, result;
};

int describe_layout(const CublasLt& lt, Described& layout, int type, const GemmOperand& operand,
                    std::int64_t batches) {
    int status =
        lt.layout_create(&layout.handle, type, static_cast<std::uint64_t>(operand.stored_rows),
                         static_cast<std::uint64_t>(operand.stored_columns), operand.stride);
    if (status != kCublasOk || batches == 1) return status;
    const auto count = static_cast<std::int32_t>(batches);
    status = lt.layout_set(layout.handle, kLayoutBatchCount, &count, sizeof(count));
    if (status != kCublasOk) return status;
    return lt.layout_set(layout.handle, kLayoutBatchStride, &operand.batch_stride,
                         sizeof(operand.batch_stride));
}

int describe_product(const CublasLt& lt, Described& product, const Problem& p) {
    int status = lt.product_create(&product.handle, kCublasComputeFloat, kCublasFloat);
    const auto set = [&](int attribute, const auto& value) {
        if (status == kCublasOk) {
            status = lt.product_set(product.handle, attribute, &value, sizeof(value));
        }
    };
    const std::int32_t first = p.first.transposed ? kCublasTransposed : kCublasAsStored;
    const std::int32_t second = p.second.transposed ? kCublasTransposed : kCublasAsStored;
    set(kProductTransposeA, first);
    set(kProductTransposeB, second);
    set(kProductEpilogue, p.epilogue);
    if (p.bias != nullptr) set(kProductBiasPointer, p.bias);
    if (p.auxiliary != nullptr) {
        set(kProductAuxiliaryPointer, p.auxiliary);
        set(kProductAuxiliaryStride, p.auxiliary_stride);
    }
    return status;
}

int describe(const CublasLt& lt, const Problem& p, Descriptions& d) {
    GemmOperand added = p.result;
    added.stride = p.added_stride;
    int status = describe_product(lt, d.product, p);
    if (status == kCublasOk) {
        status = describe_layout(lt, d.first, p.operand_type, p.first, p.batches);
    }
    if (status == kCublasOk) {
        status = describe_layout(lt, d.second, p.operand_type, p.second, p.batches);
    }
    if (status == kCublasOk) {
        status = describe_layout(lt, d.added, p.result_type, added, p.batches);
    }
    if (status == kCublasOk) {
        status = describe_layout(lt, d.result, p.result_type, p.result, p.batches);
    }
    return status;
}

// What cuBLASLt suggests; `status` is not kCublasOk where it has nothing.
CublasLtChoice ask(const CublasLt& lt, void* handle, const Problem& p, const Descriptions& d) {
    CublasLtChoice choice{};
    choice.status = kCublasNotSupported;
    Described preference(lt.preference_destroy);
    int status = lt.preference_create(&preference.handle);
    const auto set = [&](int attribute, const auto& value) {
        if (status == kCublasOk) {
            status = lt.preference_set(preference.handle, attribute, &value, sizeof(value));
        }
    };
    set(kPreferenceWorkspaceBytes, kWorkspaceBytes);
    set(kPreferenceAlignmentA, alignment_of(p.first_data));
    set(kPreferenceAlignmentB, alignment_of(p.second_data));
    set(kPreferenceAlignmentC, alignment_of(p.added_data));
    set(kPreferenceAlignmentD, alignment_of(p.result_data));
    int found = 0;
    CublasLtChoice suggested{};
    if (status == kCublasOk) {
        status =
            lt.choose(handle, d.product.handle, d.first.handle, d.second.handle, d.added.handle,
                      d.result.handle, preference.handle, 1, &suggested, &found);
    }
    return status == kCublasOk && found > 0 && suggested.status == kCublasOk ? suggested : choice;
}

// One handle a device; handles are shared by threads, as cuBLASLt allows.
struct Chosen {
    std::mutex mutex;
    std::map<int, void*> handles;
    std::map<Key, CublasLtChoice> choices;
};

Chosen& chosen() {
    static auto* const made = new Chosen;
    return *made;
}

KernelStatus choose(const CublasLt& lt, const Problem& p, const Descriptions& d, int device,
                    void*& handle, CublasLtChoice& choice) {
    Chosen& all = chosen();
    const std::scoped_lock lock(all.mutex);
    void*& made = all.handles[device];
    if (made == nullptr) {
        const int status = lt.create(&made);
        if (status != kCublasOk) return cublas_failed("cublasLtCreate", status);
    }
    handle = made;
    const Key key = key_of(p, device);
    const auto known = all.choices.find(key);
    if (known != all.choices.end()) {
        choice = known->second;
    } else {
        choice = all.choices[key] = ask(lt, handle, p, d);
    }
    return choice.status == kCublasOk ? kKernelOk : kNoAlgorithm;
}

KernelStatus multiply(const CublasLt& lt, const KernelContext& context, const Problem& p,
                      int device) {
    Descriptions d(lt);
    int status = describe(lt, p, d);
    if (status != kCublasOk) return kNoAlgorithm;
    void* handle = nullptr;
    CublasLtChoice choice{};
    const KernelStatus found = choose(lt, p, d, device, handle, choice);
    if (found != kKernelOk) return found;
    const Scratch workspace(static_cast<std::int64_t>(choice.workspace_bytes), context.stream);
    if (!workspace.ok()) return kKernelOutOfMemory;
    const float alpha = 1;
    status = lt.multiply(handle, d.product.handle, &alpha, p.first_data, d.first.handle,
                         p.second_data, d.second.handle, &p.beta, p.added_data, d.added.handle,
                         p.result_data, d.result.handle, &choice.algorithm, workspace.as<void>(),
                         choice.workspace_bytes, static_cast<CUstream_st*>(context.stream));
    if (status != kCublasOk) return cublas_failed("cublasLtMatmul", status);
    return finish_launch("gemm", context.stream);
}

int cublas_type(DType dtype) {
    switch (dtype) {
        case DType::bf16: return kCublasBfloat16;
        case DType::f16: return kCublasHalf;
        default: return kCublasFloat;
    }
}

Problem problem_of(const GemmArguments& g, const GemmOperand& a, const GemmOperand& b) {
    Problem p{};
    p.first = b;
    p.second = a;
    p.first_data = g.b.data;
    p.second_data = g.a.data;
    p.rows = g.c.size(-1);
    p.columns = g.c.size(-2);
    p.batches = g.c.dimensions == 3 ? g.c.sizes[0] : 1;
    p.result = {false, p.rows, p.columns, p.columns == 1 ? p.rows : g.c.stride(-2),
                p.batches > 1 ? g.c.strides[0] : 0};
    p.result_data = g.c.data;
    p.operand_type = cublas_type(g.a.dtype);
    p.result_type = cublas_type(g.c.dtype);
    p.added_data = g.residual.present() ? g.residual.data : g.c.data;
    p.added_stride = p.result.stride;
    if (g.residual.present() && p.columns > 1) p.added_stride = g.residual.stride(-2);
    p.beta = g.accumulate != 0 || g.residual.present() ? 1.0F : 0.0F;
    p.epilogue = gemm_epilogue(g);
    if (g.bias.present()) p.bias = g.bias.data;
    const TensorView& kept = g.activation_input.present() ? g.activation_input : g.pre_activation;
    if (kept.present()) {
        p.auxiliary = kept.data;
        p.auxiliary_stride = kept.stride(-2);
    }
    return p;
}

}  // namespace

KernelStatus multiply_by_cublas(const KernelContext& context, const GemmArguments& g) try {
    std::string reason;
    const CublasLt* const lt = cublas_lt(reason);
    if (lt == nullptr) return fail(kKernelFailed, "gemm: " + reason);
    DeviceState* const device = current_device();
    if (device == nullptr) return kKernelFailed;
    GemmOperand a, b;
    if (!gemm_operand(g.a, a) || !gemm_operand(g.b, b)) return kNoAlgorithm;
    const Problem p = problem_of(g, a, b);
    if (p.result.stride < p.rows || p.added_stride < p.rows) return kNoAlgorithm;
    return multiply(*lt, context, p, device->index);
} catch (const std::exception& error) {
    return fail(kKernelFailed, std::string("gemm: ") + error.what());
}

}  // namespace tempra::cuda

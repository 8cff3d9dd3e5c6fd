// The one file that sees cuDNN's frontend: header-only templates that take 20 s to compile. Graphs
// are those of its sample for scaled dot-product attention; engines are what its heuristics name
// first, never chosen by timing.
#include "cudnn_attention_plan.h"

#ifdef TEMPRA_CUDA_WITH_CUDNN

#include <dlfcn.h>

#include <algorithm>
#include <stdexcept>
#include <unordered_map>
#include <vector>

namespace tempra::cuda {

// The frontend would load a second CUDA runtime by its name, and print where it finds two. All it
// wants one for is the architecture, which it is told.
inline void* no_second_runtime(const char*, int) { return nullptr; }

}  // namespace tempra::cuda

#define dlopen(name, flags) tempra::cuda::no_second_runtime(name, flags)
#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>
#undef dlopen

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;  // its declaration asks for it
}

namespace tempra::cuda {

namespace {

namespace fe = cudnn_frontend;
using Attributes = fe::graph::Tensor_attributes;
using Tensor = std::shared_ptr<Attributes>;

// In one line, and not all that cuDNN has to say.
std::string shortened(std::string message) {
    std::replace(message.begin(), message.end(), '\n', ' ');
    constexpr std::size_t kMost = 300;
    if (message.size() > kMost) message = message.substr(0, kMost) + "...";
    return message;
}

// Written once, before the first call: other threads may be running plans later on.
void let_frontend_use(const CudnnLibrary& library) {
    if (fe::cudnn_dlhandle != library.file) fe::cudnn_dlhandle = library.file;
}

void require(fe::error_t result) {
    if (result.is_bad()) throw std::runtime_error(result.get_message());
}

class Plan : public CudnnAttentionPlan {
  public:
    explicit Plan(const CudnnAttentionShape& shape) : shape_(shape) {
        graph_
            .set_io_data_type(shape.dtype == DType::f16 ? fe::DataType_t::HALF
                                                        : fe::DataType_t::BFLOAT16)
            .set_intermediate_data_type(fe::DataType_t::FLOAT)
            .set_compute_data_type(fe::DataType_t::FLOAT)
            .set_sm_version(shape.architecture);
    }

    void build(void* handle, const std::string& device) {
        if (handle == nullptr) {
            const auto properties = std::make_shared<fe::DeviceProperties>();
            require(properties->deserialize({device.begin(), device.end()}));
            graph_.set_device_properties(properties);
        }
        if (shape_.backward) {
            describe_backward();
        } else {
            describe_forward();
        }
        const auto cudnn = static_cast<cudnnHandle_t>(handle);
        require(graph_.validate());
        require(handle == nullptr ? graph_.build_operation_graph()
                                  : graph_.build_operation_graph(cudnn));
        require(graph_.create_execution_plans({fe::HeurMode_t::A}));
        if (shape_.deterministic) {
            graph_.deselect_numeric_notes({fe::NumericalNote_t::NONDETERMINISTIC});
        }
        require(graph_.check_support());
        require(graph_.build_plans(fe::BuildPlanPolicy_t::HEURISTICS_CHOICE));
        require(graph_.get_workspace_size(workspace_bytes_));
        require(graph_.get_plan_name(engine_));
    }

    [[nodiscard]] std::int64_t workspace_bytes() const override { return workspace_bytes_; }
    [[nodiscard]] std::string engine() const override { return engine_; }

    [[nodiscard]] std::string run(void* handle, const CudnnPointers& tensors,
                                  void* workspace) const override try {
        std::unordered_map<std::int64_t, void*> pointers;
        for (const int tensor : used_) {
            pointers.emplace(tensor + 1, tensors[static_cast<std::size_t>(tensor)]);
        }
        auto result = graph_.execute(static_cast<cudnnHandle_t>(handle), pointers, workspace);
        return result.is_good() ? "" : shortened(result.get_message());
    } catch (const std::exception& error) {
        return shortened(error.what());
    }

  private:
    // What a tensor of ours is to cuDNN; its id is its number and one.
    void describe(const Tensor& to, int tensor) {
        const std::int64_t heads = cudnn_heads(shape_, tensor);
        const std::int64_t length = cudnn_length(shape_, tensor);
        used_.push_back(tensor);
        to->set_uid(tensor + 1);
        if (tensor == kCudnnStatistics) {
            to->set_dim({shape_.sequences, heads, length, 1}).set_data_type(fe::DataType_t::FLOAT);
            // Ragged: [tokens, heads], else [sequences, heads, length]: the layouts that every
            // version of cuDNN reads back.
            if (shape_.ragged) {
                to->set_stride({heads * length, 1, heads, 1});
            } else {
                to->set_stride({heads * length, length, 1, 1});
            }
        } else {
            const auto at = static_cast<std::size_t>(tensor);
            const std::int64_t rows = shape_.row_strides[at];
            to->set_dim({shape_.sequences, heads, length, shape_.head_dim})
                .set_stride({length * rows, shape_.head_strides[at], rows, 1});
        }
        if (shape_.ragged) to->set_ragged_offset(integers(kCudnnTables + tensor, 1));
    }

    Tensor integers(int tensor, int beyond) {
        used_.push_back(tensor);
        return graph_.tensor(Attributes()
                                 .set_uid(tensor + 1)
                                 .set_dim({shape_.sequences + beyond, 1, 1, 1})
                                 .set_stride({1, 1, 1, 1})
                                 .set_data_type(fe::DataType_t::INT32));
    }

    Tensor input(int tensor) {
        const auto made = std::make_shared<Attributes>();
        describe(made, tensor);
        return graph_.tensor(*made);
    }

    void output(const Tensor& made, int tensor) {
        made->set_output(true);
        describe(made, tensor);
    }

    template <class Options>
    void set_options(Options& options) {
        options.set_attn_scale(shape_.scale());
        if (shape_.causal) {
            // The same for as many queries as keys, where the first has no special cases.
            options
                .set_diagonal_alignment(shape_.queries == shape_.keys
                                            ? fe::DiagonalAlignment_t::TOP_LEFT
                                            : fe::DiagonalAlignment_t::BOTTOM_RIGHT)
                .set_diagonal_band_right_bound(0);
        }
        if (shape_.window != 0) options.set_diagonal_band_left_bound(shape_.window);
        if (shape_.ragged) {
            options.set_padding_mask(true)
                .set_seq_len_q(integers(kCudnnLengthsQ, 0))
                .set_seq_len_kv(integers(kCudnnLengthsK, 0));
        }
    }

    void describe_forward() {
        fe::graph::SDPA_attributes options;
        options.set_name("attention").set_generate_stats(shape_.statistics);
        set_options(options);
        const Tensor q = input(kCudnnQ), k = input(kCudnnK), v = input(kCudnnV);
        const auto [out, statistics] = graph_.sdpa(q, k, v, options);
        output(out, kCudnnOut);
        if (shape_.statistics) output(statistics, kCudnnStatistics);
    }

    void describe_backward() {
        fe::graph::SDPA_backward_attributes options;
        options.set_name("attention_backward").set_deterministic_algorithm(shape_.deterministic);
        set_options(options);
        const Tensor q = input(kCudnnQ), k = input(kCudnnK), v = input(kCudnnV),
                     out = input(kCudnnOut), grad_out = input(kCudnnGradOut),
                     statistics = input(kCudnnStatistics);
        const auto [grad_q, grad_k, grad_v] =
            graph_.sdpa_backward(q, k, v, out, grad_out, statistics, options);
        output(grad_q, kCudnnGradQ);
        output(grad_k, kCudnnGradK);
        output(grad_v, kCudnnGradV);
    }

    CudnnAttentionShape shape_;
    fe::graph::Graph graph_;
    std::vector<int> used_;
    std::int64_t workspace_bytes_ = 0;
    std::string engine_;
};

}  // namespace

void* cudnn_handle(const CudnnLibrary& library, std::string& reason) try {
    let_frontend_use(library);
    cudnnHandle_t handle = nullptr;
    const cudnnStatus_t status = fe::detail::create_handle(&handle);
    if (status == CUDNN_STATUS_SUCCESS) return handle;
    reason = std::string("cudnnCreate: ") + fe::detail::get_error_string(status);
    return nullptr;
} catch (const std::exception& error) {
    reason = shortened(error.what());
    return nullptr;
}

std::string cudnn_set_stream(void* handle, void* stream) try {
    const cudnnStatus_t status = fe::detail::set_stream(static_cast<cudnnHandle_t>(handle),
                                                        static_cast<cudaStream_t>(stream));
    if (status == CUDNN_STATUS_SUCCESS) return "";
    return std::string("cudnnSetStream: ") + fe::detail::get_error_string(status);
} catch (const std::exception& error) {
    return shortened(error.what());
}

std::unique_ptr<CudnnAttentionPlan> build_cudnn_attention(const CudnnLibrary& library,
                                                          const CudnnAttentionShape& shape,
                                                          void* handle, const std::string& device,
                                                          std::string& reason) try {
    let_frontend_use(library);
    auto plan = std::make_unique<Plan>(shape);
    plan->build(handle, device);
    return plan;
} catch (const std::exception& error) {
    reason = shortened(error.what());
    return nullptr;
}

}  // namespace tempra::cuda

#else

namespace tempra::cuda {

// Never asked where `cudnn_library` finds none.
void* cudnn_handle(const CudnnLibrary&, std::string&) { return nullptr; }
std::string cudnn_set_stream(void*, void*) { return ""; }
std::unique_ptr<CudnnAttentionPlan> build_cudnn_attention(const CudnnLibrary&,
                                                          const CudnnAttentionShape&, void*,
                                                          const std::string&, std::string&) {
    return nullptr;
}

}  // namespace tempra::cuda

#endif

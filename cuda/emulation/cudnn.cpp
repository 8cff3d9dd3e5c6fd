// In the place of cuDNN, where TEMPRA_EMULATED_CUDNN is 1: attention written out, of what a plan is
// given and nothing else: shape, strides, tables and lengths, log-sum-exps in cuDNN's layouts.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "cudnn_attention_plan.h"
#include "device_access.h"
#include "element_bits.h"
#include "emulated_stream.h"

namespace tempra::cuda {

namespace {

using emulation::DeviceAccess;

constexpr std::int64_t kWorkspace = 1000;

struct Handle {
    cudaStream_t stream = nullptr;
};

class Emulated : public CudnnAttentionPlan {
  public:
    explicit Emulated(const CudnnAttentionShape& shape) : shape_(shape) {}

    [[nodiscard]] std::int64_t workspace_bytes() const override { return kWorkspace; }
    [[nodiscard]] std::string engine() const override { return "emulated"; }
    [[nodiscard]] std::string run(void* handle, const CudnnPointers& tensors,
                                  void* workspace) const override {
        for (int tensor = 0; tensor < kCudnnRows; ++tensor) {
            if (!cudnn_uses(shape_, tensor)) continue;
            const auto at = static_cast<std::size_t>(tensor);
            if (tensors[at] == nullptr) return "a tensor is missing";
            if (shape_.ragged && tensors[at + kCudnnTables] == nullptr) return "a table is missing";
        }
        for (const void* const tensor : tensors) {  // as the frontend says to cuDNN of all tensors
            if (reinterpret_cast<std::uintptr_t>(tensor) % 16 != 0) return "a tensor off 16 bytes";
        }
        emulation::perform(static_cast<Handle*>(handle)->stream,
                           [shape = shape_, tensors, workspace] {
                               const DeviceAccess access;
                               std::memset(workspace, 255, kWorkspace);
                               Problem{shape, tensors}.compute();
                           });
        return "";
    }

  private:
    struct Problem {
        const CudnnAttentionShape& shape;
        const CudnnPointers& tensors;

        [[nodiscard]] std::int64_t length(int lengths, std::int64_t sequence,
                                          std::int64_t longest) const {
            if (!shape.ragged) return longest;
            return static_cast<const std::int32_t*>(
                tensors[static_cast<std::size_t>(lengths)])[sequence];
        }
        [[nodiscard]] std::int64_t place(int tensor, std::int64_t sequence, std::int64_t head,
                                         std::int64_t row) const {
            const auto at = static_cast<std::size_t>(tensor);
            std::int64_t row_stride = shape.row_strides[at], head_stride = shape.head_strides[at];
            const std::int64_t rows = cudnn_length(shape, tensor);
            std::int64_t begin = sequence * rows * row_stride;
            if (tensor == kCudnnStatistics) {
                row_stride = shape.ragged ? shape.heads : 1;
                head_stride = shape.ragged ? 1 : rows;
                begin = sequence * shape.heads * rows;
            }
            if (shape.ragged) {
                begin = static_cast<const std::int32_t*>(tensors[at + kCudnnTables])[sequence];
            }
            return begin + head * head_stride + row * row_stride;
        }
        // A row of a head.
        [[nodiscard]] std::vector<double> row(int tensor, std::int64_t sequence, std::int64_t head,
                                              std::int64_t index) const {
            const auto* const from =
                static_cast<const std::uint16_t*>(tensors[static_cast<std::size_t>(tensor)]) +
                place(tensor, sequence, head, index);
            std::vector<double> values;
            for (std::int64_t d = 0; d < shape.head_dim; ++d) {
                values.push_back(shape.dtype == DType::f16 ? float16_value(from[d])
                                                           : bfloat16{from[d]}.to_float());
            }
            return values;
        }
        void store(int tensor, std::int64_t sequence, std::int64_t head, std::int64_t index,
                   const double* values) const {
            auto* const to =
                static_cast<std::uint16_t*>(tensors[static_cast<std::size_t>(tensor)]) +
                place(tensor, sequence, head, index);
            for (std::int64_t d = 0; d < shape.head_dim; ++d) {
                const auto value = static_cast<float>(values[d]);
                to[d] = shape.dtype == DType::f16 ? float16_bits(value)
                                                  : bfloat16::from_float(value).bits;
            }
        }
        [[nodiscard]] bool sees(std::int64_t query, std::int64_t key) const {
            const std::int64_t last = query + shape.keys - shape.queries;
            if (shape.causal && key > last) return false;
            return shape.window == 0 || key > last - shape.window;
        }

        void compute() const {
            for (std::int64_t sequence = 0; sequence < shape.sequences; ++sequence) {
                for (std::int64_t head = 0; head < shape.kv_heads; ++head) {
                    compute_group(sequence, head);
                }
            }
        }

        // The heads that share a head of keys.
        void compute_group(std::int64_t sequence, std::int64_t kv_head) const {
            const std::int64_t queries = length(kCudnnLengthsQ, sequence, shape.queries);
            const std::int64_t keys = length(kCudnnLengthsK, sequence, shape.keys);
            const std::int64_t dim = shape.head_dim, group = shape.heads / shape.kv_heads;
            std::vector<std::vector<double>> k, v;
            for (std::int64_t j = 0; j < keys; ++j) {
                k.push_back(row(kCudnnK, sequence, kv_head, j));
                v.push_back(row(kCudnnV, sequence, kv_head, j));
            }
            std::vector<double> grad_k(static_cast<std::size_t>(keys * dim)), grad_v = grad_k;
            const auto dot = [](const std::vector<double>& a, const std::vector<double>& b) {
                double sum = 0;
                for (std::size_t d = 0; d < a.size(); ++d) sum += a[d] * b[d];
                return sum;
            };
            for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
                for (std::int64_t i = 0; i < queries; ++i) {
                    const std::vector<double> q = row(kCudnnQ, sequence, head, i);
                    std::vector<double> scores;
                    double largest = -INFINITY, sum = 0;
                    for (const std::vector<double>& key : k) {
                        const auto j = static_cast<std::int64_t>(scores.size());
                        scores.push_back(sees(i, j) ? shape.scale() * dot(q, key) : -INFINITY);
                        largest = std::max(largest, scores.back());
                    }
                    for (const double score : scores) sum += std::exp(score - largest);
                    if (shape.backward) {
                        backward_row(sequence, head, i, q, k, v, scores, grad_k, grad_v);
                        continue;
                    }
                    std::vector<double> out(static_cast<std::size_t>(dim));
                    for (std::size_t j = 0; j < scores.size(); ++j) {
                        const double weight = std::exp(scores[j] - largest) / sum;
                        for (std::size_t d = 0; d < out.size(); ++d) out[d] += weight * v[j][d];
                    }
                    store(kCudnnOut, sequence, head, i, out.data());
                    if (shape.statistics) {
                        static_cast<float*>(
                            tensors[kCudnnStatistics])[place(kCudnnStatistics, sequence, head, i)] =
                            static_cast<float>(largest + std::log(sum));
                    }
                }
            }
            if (!shape.backward) return;
            for (std::int64_t j = 0; j < keys; ++j) {
                store(kCudnnGradK, sequence, kv_head, j,
                      &grad_k[static_cast<std::size_t>(j * dim)]);
                store(kCudnnGradV, sequence, kv_head, j,
                      &grad_v[static_cast<std::size_t>(j * dim)]);
            }
        }

        void backward_row(std::int64_t sequence, std::int64_t head, std::int64_t i,
                          const std::vector<double>& q, const std::vector<std::vector<double>>& k,
                          const std::vector<std::vector<double>>& v,
                          const std::vector<double>& scores, std::vector<double>& grad_k,
                          std::vector<double>& grad_v) const {
            const std::vector<double> out = row(kCudnnOut, sequence, head, i);
            const std::vector<double> grad = row(kCudnnGradOut, sequence, head, i);
            const double log_sum_exp = static_cast<const float*>(
                tensors[kCudnnStatistics])[place(kCudnnStatistics, sequence, head, i)];
            double delta = 0;
            for (std::size_t d = 0; d < out.size(); ++d) delta += out[d] * grad[d];
            std::vector<double> grad_q(q.size());
            for (std::size_t j = 0; j < scores.size(); ++j) {
                const double weight = std::exp(scores[j] - log_sum_exp);
                double product = 0;
                for (std::size_t d = 0; d < q.size(); ++d) product += grad[d] * v[j][d];
                const double change = weight * (product - delta) * shape.scale();
                for (std::size_t d = 0; d < q.size(); ++d) {
                    grad_q[d] += change * k[j][d];
                    grad_k[j * q.size() + d] += change * q[d];
                    grad_v[j * q.size() + d] += weight * grad[d];
                }
            }
            store(kCudnnGradQ, sequence, head, i, grad_q.data());
        }
    };

    CudnnAttentionShape shape_;
};

}  // namespace

std::string CudnnLibrary::name() const { return "emulated cuDNN"; }

const CudnnLibrary* cudnn_library(std::string& reason) {
    static const CudnnLibrary library{nullptr, kOldestCudnn, "cuda/emulation"};
    const char* const wanted = std::getenv("TEMPRA_EMULATED_CUDNN");
    if (wanted != nullptr && std::strcmp(wanted, "1") == 0) return &library;
    reason = "the emulated device has no cuDNN without TEMPRA_EMULATED_CUDNN=1";
    return nullptr;
}

void* cudnn_handle(const CudnnLibrary&, std::string&) { return new Handle; }

std::string cudnn_set_stream(void* handle, void* stream) {
    static_cast<Handle*>(handle)->stream = static_cast<cudaStream_t>(stream);
    return "";
}

std::unique_ptr<CudnnAttentionPlan> build_cudnn_attention(const CudnnLibrary&,
                                                          const CudnnAttentionShape& shape, void*,
                                                          const std::string&, std::string& reason) {
    // As cuDNN with heads above 128 on what the emulated device is not.
    if (shape.head_dim > 128) {
        reason = "the emulated cuDNN has heads of up to 128";
        return nullptr;
    }
    return std::make_unique<Emulated>(shape);
}

}  // namespace tempra::cuda

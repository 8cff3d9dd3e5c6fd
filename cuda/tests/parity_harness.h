// Runs a kernel of the CPU's table and of a device's on the same operands and compares every
// operand afterwards, bit for bit or within a stated tolerance; the device runs twice, and both
// runs must agree in every bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dispatch/kernel_table.h"
#include "tempra_cuda/abi.h"

namespace tempra::cuda::parity {

// Where the kernels under test run.
class Backend {
  public:
    Backend() = default;
    Backend(const Backend&) = delete;
    Backend& operator=(const Backend&) = delete;
    virtual ~Backend() = default;

    [[nodiscard]] virtual const KernelTable& kernels() const = 0;
    [[nodiscard]] virtual KernelContext context() const = 0;
    [[nodiscard]] virtual std::string name() const = 0;
    // Bytes in the backend's memory; empty string: done, else why not.
    [[nodiscard]] virtual std::string allocate(std::int64_t bytes, void** out) = 0;
    virtual void release(void* block) = 0;
    [[nodiscard]] virtual std::string upload(void* to, const void* from, std::int64_t bytes) = 0;
    [[nodiscard]] virtual std::string download(void* to, const void* from, std::int64_t bytes) = 0;
    // Waits, and tells what went wrong on the device.
    [[nodiscard]] virtual std::string synchronize() = 0;
    [[nodiscard]] virtual std::string last_error() const = 0;
    // Attention by cuDNN or by our own kernels; false where cuDNN cannot be had.
    [[nodiscard]] virtual bool choose_attention(bool cudnn) = 0;
    [[nodiscard]] virtual std::string attention_kernels() const = 0;
};

// The library at `path` on device 0; null with the reason when there is none.
[[nodiscard]] std::unique_ptr<Backend> cuda_backend(const std::string& path, std::string& reason);
// The CPU's own kernels in the place of a device: shows that the cases themselves are sound.
// `broken`: every result is a little off, which every case must notice.
[[nodiscard]] std::unique_ptr<Backend> rehearsal_backend(bool broken);

// A tensor, or raw bytes (u8) of a struct. Elements not covered by the view are compared too: a
// kernel that writes where it should not is noticed.
struct Operand {
    TensorView view;  // `data` is set while a kernel runs
    std::vector<std::byte> bytes;
};

// Values: normal numbers, scaled; integers below `limit`.
enum class Values { normal, positive, unit, zero };
[[nodiscard]] Operand tensor(DType dtype, std::vector<std::int64_t> sizes,
                             Values values = Values::normal);
// The same with strides, over as many elements as they reach.
[[nodiscard]] Operand strided(DType dtype, std::vector<std::int64_t> sizes,
                              std::vector<std::int64_t> strides, Values values = Values::normal);
[[nodiscard]] Operand indices(DType dtype, std::int64_t count, std::int64_t limit);
[[nodiscard]] Operand raw(const void* data, std::size_t bytes);
// A struct of four-byte members (or of doubles that are no NaN as two floats): any NaN equals any.
[[nodiscard]] Operand raw_floats(const void* data, std::size_t bytes);

// |got - want| <= absolute + relative * |want|; both 0: bit for bit.
struct Tolerance {
    double relative = 0, absolute = 0;
};
inline constexpr Tolerance kExact{};
// fp32 functions of the C library and CUDA's differ by a few units in the last place.
inline constexpr Tolerance kFloat{4e-6, 2e-6};
// Sums of many fp32 numbers in another order.
inline constexpr Tolerance kFloatSum{2e-5, 2e-5};
// One unit in the last place of fp16 or bf16, where the fp32 values before the rounding differ
// slightly.
inline constexpr Tolerance kFloat16{1.2e-3, 2e-4};
inline constexpr Tolerance kBfloat16{8e-3, 1e-3};

[[nodiscard]] inline Tolerance tolerance_of(DType dtype, Tolerance single = kFloat) {
    if (dtype == DType::bf16) return kBfloat16;
    if (dtype != DType::f16) return single;
    return {single.relative > kFloat16.relative ? single.relative : kFloat16.relative,
            single.absolute > kFloat16.absolute ? single.absolute : kFloat16.absolute};
}

using Views = std::vector<TensorView>;
using Call = std::function<KernelStatus(const KernelTable&, const KernelContext&, const Views&)>;

class Suite {
  public:
    // `only`: parts of names, one of which a case must contain to be run; empty: all are run.
    explicit Suite(Backend& backend, std::vector<std::string> only = {})
        : backend_(backend), only_(std::move(only)) {}

    // One line of the table. fp16 is the device's alone: the CPU computes in fp32 from the same
    // numbers, and what it gives is rounded; where the CPU stands in for a device nothing is done.
    void check(const std::string& name, const std::vector<Operand>& operands, Tolerance tolerance,
               const Call& call);
    // The call is accepted, and `synchronize` then reports a fault that contains `part`.
    void check_fault(const std::string& name, const std::vector<Operand>& operands,
                     const std::string& part, const Call& call);

    [[nodiscard]] int failures() const { return failures_; }
    [[nodiscard]] int cases() const { return cases_; }
    [[nodiscard]] Backend& backend() const { return backend_; }

  private:
    [[nodiscard]] bool is_wanted(const std::string& name) const;
    void report(const std::string& name, const std::string& problem, double worst);

    Backend& backend_;
    std::vector<std::string> only_;
    int cases_ = 0, failures_ = 0;
};

void check_attention(Suite& suite);
void check_elementwise(Suite& suite);
void check_gemm(Suite& suite);
void check_indexing(Suite& suite);
void check_language(Suite& suite);
void check_rows(Suite& suite);
void check_reductions(Suite& suite);
void check_integer_reductions(Suite& suite);
void check_random(Suite& suite);
void check_arena(Suite& suite);

}  // namespace tempra::cuda::parity

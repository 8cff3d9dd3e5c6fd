// One pointer per kernel. Every CPU instruction set and the CUDA library fill one table each, so
// choosing an ISA and choosing a device are the same mechanism.
//
// The struct is standard layout: it also crosses the C boundary of the CUDA library. Kernels take
// plain views and return a status, never throw. Unless a comment says otherwise:
//   - views may be strided; sizes were checked by the op layer; outputs do not alias inputs, except
//     that elementwise kernels allow an output identical to an input (same data, same strides);
//   - "compute dtype" T is f32 or bf16 on every ISA, also f64 on the baseline table (the op layer
//     sends any other dtype to the baseline table), and also f16 on CUDA, where what is said of
//     bf16 beside f32 holds of f16 beside f32;
//   - arithmetic is done in fp32 (f64 for f64) and rounded once, at the store;
//   - results do not depend on the number of threads; there are no float atomics;
//   - an absent optional view has `present() == false`.
#pragma once

#include <cstdint>

#include "tempra/activation.h"
#include "tempra/tensor_view.h"

namespace tempra {

using KernelStatus = std::int32_t;
inline constexpr KernelStatus kKernelOk = 0;
inline constexpr KernelStatus kKernelUnsupportedDtype = 1;
inline constexpr KernelStatus kKernelOutOfMemory = 2;
inline constexpr KernelStatus kKernelFailed = 3;
inline constexpr KernelStatus kKernelIndexOutOfRange = 4;

// Where a kernel runs: the CUDA stream, or null on the CPU.
struct KernelContext {
    void* stream = nullptr;
};

enum class UnaryOp : std::int32_t {
    negative,
    absolute,
    exp,
    log,
    log1p,
    expm1,
    sqrt,
    rsqrt,
    reciprocal,
    square,
    sin,
    cos,
    tanh,
    erf,
    sigmoid,
    relu,
    silu,
    softplus,
    gelu,
    gelu_tanh,
    sign,
    floor,
    ceil,
    round,
    logical_not,
    is_finite,
    is_nan,  // output is bool
    count_
};

enum class BinaryOp : std::int32_t {
    add,
    subtract,
    multiply,
    divide,
    power,
    maximum,
    minimum,
    equal,
    not_equal,
    less,
    less_equal,
    greater,
    greater_equal,  // output is bool
    logical_and,
    logical_or,
    logical_xor,  // bool in, bool out
    count_
};

enum class ReduceOp : std::int32_t { sum, mean, maximum, minimum, product, count_ };

enum class RandomDistribution : std::int32_t { uniform, normal };

// Philox4x32-10: key = seed; counter = (element / 4, row, ordinal, step), lane = element % 4.
// `row` counts from `row_offset`, the first global sample row held here. For `random_fill` the
// output is viewed as [rows = size(0), elements = the rest] (a 0- or 1-d output is one row).
struct PhiloxKey {
    std::uint64_t seed = 0;
    std::uint32_t step = 0;
    std::uint32_t ordinal = 0;
    std::uint32_t row_offset = 0;
    // On CUDA: where not null, the step is there, in device memory, so that it may vary between
    // launches of one graph.
    const std::uint32_t* step_on_device = nullptr;
};

// c = activation(a @ b + bias) + residual, or c += a @ b when `accumulate`.
// a [batch..., m, k], b [batch..., k, n], c [batch..., m, n]; at most 3 dimensions, batch strides
// may be 0. a and b have the same compute dtype T, or b is f32 where a is bf16 (on the CPU: fp32
// weights, rounded as they are packed; then never `packed_b`), with one of the last two strides
// equal to 1 (transposition is expressed by strides); c is T or f32, with unit column stride.
// bias [n]: T or f32. residual [m, n]: dtype of c. pre_activation [m, n] (written, dtype of c): the
// value the activation is taken of, present or not. activation_input [m, n] (read): when present
// the result is (a @ b) * activation'(activation_input), the backward epilogue; bias is then
// absent. c overlaps neither a nor b.
struct GemmArguments {
    TensorView a, b, c;
    TensorView bias, residual, pre_activation, activation_input;
    const void* packed_b = nullptr;  // from gemm_pack, for this b; null: packed on the fly
    Activation activation = Activation::none;
    std::int32_t accumulate = 0;
};

// Dropout of attention weights numbers its elements for so many keys a head, however long sequences
// are: what other sequences a batch holds moves no mask. Counters of 32 bits then have room for
// kDropoutHeads.
inline constexpr std::int64_t kDropoutKeys = std::int64_t{1} << 24;
inline constexpr std::int64_t kDropoutHeads = 1024;

// q [tokens_q, heads, head_dim], k and v [tokens_k, kv_heads, head_dim] (v's head_dim equals k's),
// out like q, unit stride in the last dimension, other strides free (q, k, v may be slices of one
// qkv buffer). heads % kv_heads == 0. Sequence s owns query rows [offsets_q[s], offsets_q[s + 1])
// and key rows [offsets_k[s], offsets_k[s + 1]) (i32, [sequences + 1]). Causal masks are aligned at
// the end: query i of n_q sees keys up to i + n_k - n_q. A row without keys gives zeros.
// log_sum_exp: f32 (f64 for f64) [heads, tokens_q], natural log of the scaled scores' sum; absent
// in inference.
struct AttentionArguments {
    TensorView q, k, v, out;
    TensorView log_sum_exp;
    TensorView offsets_q, offsets_k;
    double scale = 1.0;
    double dropout_probability = 0;  // of attention weights; row = query row, element = head *
                                     // kDropoutKeys + key position within the sequence
    PhiloxKey dropout_key;
    std::int32_t causal = 1;
    std::int32_t window = 0;  // 0: unlimited; else a query sees only its last `window` keys
    std::int64_t max_query_length = 0, max_key_length = 0;  // longest sequence, for grid shapes
    std::int32_t uniform = 0;  // not 0: the sequences are all as long as the longest, from row 0 on
};

// Gradients of the above; grad_q, grad_k and grad_v are overwritten.
struct AttentionBackwardArguments {
    AttentionArguments forward;  // out and log_sum_exp as the forward pass left them
    TensorView grad_out, grad_q, grad_k, grad_v;
};

// loss_i = log_sum_exp_i - logit_i[label] (with label smoothing) + z_loss * log_sum_exp_i^2, where
// logits = hidden @ weight^T (+ bias), computed in chunks of rows; 0 where label == ignore_index.
// hidden [tokens, width] T; weight [vocabulary, width] T, or f32 as in a product; bias [vocabulary]
// f32 or absent; labels [tokens] i64 or i32; losses [tokens] f32; log_sum_exps [tokens] f32.
// Gradients, where present: grad_hidden [tokens, width] T (overwritten), grad_weight [vocabulary,
// width] f32 and grad_bias [vocabulary] f32 (added to, or overwritten when `accumulate` is 0), of
// sum_i loss_i * row_scale, where row_scale is grad_losses[i] (f32 [tokens]) if present, else
// `grad_scale`. With grad_losses and log_sum_exps, the latter is an input, as an earlier call left
// it, and losses are not written. For T = f64 everything said to be f32 is f64. A label outside [0,
// vocabulary) other than ignore_index gives kKernelIndexOutOfRange before anything is written.
struct LinearCrossEntropyArguments {
    TensorView hidden, weight, bias, labels;
    TensorView losses, log_sum_exps;
    TensorView grad_losses, grad_hidden, grad_weight, grad_bias;
    std::int64_t ignore_index = -100;
    std::int64_t chunk_rows = 0;  // 0: chosen by the kernel from the shapes
    double label_smoothing = 0;
    double z_loss = 0;
    double grad_scale = 1;
    std::int32_t accumulate = 1;
};

// One parameter's range of an arena. Segments ascend by offset and do not overlap (else
// kKernelFailed).
struct ArenaSegment {
    std::int64_t offset;
    std::int64_t length;
    std::int32_t group;
    std::int32_t frozen;  // not 0: skipped
};

struct AdamWGroup {
    float learning_rate_scale;
    float weight_decay;
    float beta1;
    float beta2;
    float epsilon;
};

// What varies from step to step; lives in device memory so that a step can be captured whole.
struct StepScalars {
    double step_count;  // updates applied so far, including the current one once prepared
    float learning_rate;
    float gradient_scale;     // multiplies every gradient: 1 / valid tokens
    float max_gradient_norm;  // 0: no clipping
    float clip_coefficient;   // written by prepare_step: multiplies every gradient too, and takes
                              // the loss scale out
    float gradient_norm;      // written by prepare_step, of the scaled gradient
    std::int32_t skip;        // written by prepare_step: not 0 when the norm is not finite
    std::int32_t skipped_in_a_row;
    std::int32_t skipped_total;
    // What the loss was multiplied by; 0: dynamic loss scaling is off. prepare_step leaves the next
    // step's (dispatch/loss_scale.h).
    float loss_scale;
    std::int32_t clean_steps;  // in a row since the loss scale changed
};

struct AdamWArguments {
    float* parameters;
    const float* gradients;
    float* first_moments;
    float* second_moments;
    bfloat16* low_precision;  // bf16 copy to refresh, or null
    const ArenaSegment* segments;
    std::int64_t segment_count;
    const AdamWGroup* groups;
    const StepScalars* scalars;
    float16* half_precision = nullptr;  // fp16 copy to refresh, or null
};

struct KernelTable {
    std::int64_t size = sizeof(KernelTable);

    // elementwise
    KernelStatus (*fill)(const KernelContext&, const TensorView& out, double value) = nullptr;
    KernelStatus (*arange)(const KernelContext&, const TensorView& out, double start,
                           double step) = nullptr;
    // Same sizes, any dtypes, any strides; float to integer truncates, to bool tests != 0.
    KernelStatus (*copy)(const KernelContext&, const TensorView& in,
                         const TensorView& out) = nullptr;
    // out += in, rounding once; dtypes may differ (floating only).
    KernelStatus (*accumulate)(const KernelContext&, const TensorView& in,
                               const TensorView& out) = nullptr;
    KernelStatus (*unary)(const KernelContext&, UnaryOp op, const TensorView& in,
                          const TensorView& out) = nullptr;
    // grad_in = grad_out * op'(in); `out` is the op's output, for ops whose derivative is simplest
    // in it.
    KernelStatus (*unary_backward)(const KernelContext&, UnaryOp op, const TensorView& in,
                                   const TensorView& out, const TensorView& grad_out,
                                   const TensorView& grad_in) = nullptr;
    // a, b and out have equal sizes (broadcast by zero strides); a and b equal dtypes (floats, and
    // i64, i32 for arithmetic and comparison on the baseline table; bool for logical ops).
    KernelStatus (*binary)(const KernelContext&, BinaryOp op, const TensorView& a,
                           const TensorView& b, const TensorView& out) = nullptr;
    KernelStatus (*where)(const KernelContext&, const TensorView& condition, const TensorView& a,
                          const TensorView& b, const TensorView& out) = nullptr;
    KernelStatus (*clamp)(const KernelContext&, const TensorView& in, double low, double high,
                          const TensorView& out) = nullptr;

    // reductions: `out` has the dimensions of `in`, with size 1 where reduced
    KernelStatus (*reduce)(const KernelContext&, ReduceOp op, const TensorView& in,
                           const TensorView& out) = nullptr;
    // Index of the first extreme along `dimension` (NaN counts as extreme); out i64, size 1 there.
    KernelStatus (*arg_reduce)(const KernelContext&, std::int32_t maximum, const TensorView& in,
                               std::int32_t dimension, const TensorView& out) = nullptr;
    KernelStatus (*cumulative_sum)(const KernelContext&, const TensorView& in,
                                   std::int32_t dimension, std::int32_t reverse,
                                   const TensorView& out) = nullptr;
    // Stable; NaN sorts as the largest. indices i64. `values.size(dimension)` = k <= the input's:
    // the first k.
    KernelStatus (*sort)(const KernelContext&, const TensorView& in, std::int32_t dimension,
                         std::int32_t descending, const TensorView& values,
                         const TensorView& indices) = nullptr;

    // indexing: index i64 or i32, sizes as NumPy take_along_axis; negative or too large:
    // kKernelIndexOutOfRange
    KernelStatus (*gather)(const KernelContext&, const TensorView& in, std::int32_t dimension,
                           const TensorView& index, const TensorView& out) = nullptr;
    // out[index] = source (last one wins) or += source, in order of position: deterministic.
    KernelStatus (*scatter)(const KernelContext&, const TensorView& source, std::int32_t dimension,
                            const TensorView& index, std::int32_t add,
                            const TensorView& out) = nullptr;

    // matrix products
    KernelStatus (*gemm)(const KernelContext&, const GemmArguments&) = nullptr;
    std::int64_t (*gemm_packed_bytes)(const TensorView& b) = nullptr;  // 0: packing is not used
    KernelStatus (*gemm_pack)(const KernelContext&, const TensorView& b, void* packed) = nullptr;

    // rows: [rows, columns], unit column stride
    KernelStatus (*softmax)(const KernelContext&, const TensorView& in, std::int32_t logarithm,
                            const TensorView& out) = nullptr;
    KernelStatus (*softmax_backward)(const KernelContext&, const TensorView& out,
                                     const TensorView& grad_out, std::int32_t logarithm,
                                     const TensorView& grad_in) = nullptr;
    // weight, bias [columns]: T or f32, bias (and weight) may be absent; mean, rstd [rows] f32 (f64
    // for f64)
    KernelStatus (*layer_norm)(const KernelContext&, const TensorView& x, const TensorView& weight,
                               const TensorView& bias, double epsilon, const TensorView& out,
                               const TensorView& mean, const TensorView& rstd) = nullptr;
    // grad_x overwritten; grad_weight, grad_bias (f32, or f64 for f64; may be absent) are added to.
    KernelStatus (*layer_norm_backward)(const KernelContext&, const TensorView& grad_out,
                                        const TensorView& x, const TensorView& weight,
                                        const TensorView& mean, const TensorView& rstd,
                                        const TensorView& grad_x, const TensorView& grad_weight,
                                        const TensorView& grad_bias) = nullptr;
    KernelStatus (*rms_norm)(const KernelContext&, const TensorView& x, const TensorView& weight,
                             double epsilon, const TensorView& out,
                             const TensorView& rstd) = nullptr;
    KernelStatus (*rms_norm_backward)(const KernelContext&, const TensorView& grad_out,
                                      const TensorView& x, const TensorView& weight,
                                      const TensorView& rstd, const TensorView& grad_x,
                                      const TensorView& grad_weight) = nullptr;
    // out = silu(gate) * up; [rows, columns] each
    // Backward: grad_gate may be gate, and grad_up up.
    KernelStatus (*swiglu)(const KernelContext&, const TensorView& gate, const TensorView& up,
                           const TensorView& out) = nullptr;
    KernelStatus (*swiglu_backward)(const KernelContext&, const TensorView& gate,
                                    const TensorView& up, const TensorView& grad_out,
                                    const TensorView& grad_gate,
                                    const TensorView& grad_up) = nullptr;
    // x, out [tokens, heads, head_dim], unit last stride, out may be x; positions [tokens] i64 or
    // i32; cosines, sines [max_position, rotary_dim / 2] f32. `interleaved`: pairs (2i, 2i + 1),
    // else (i, i + rotary_dim / 2). `inverse` rotates back: the backward pass. Elements past
    // rotary_dim are copied.
    KernelStatus (*rotary)(const KernelContext&, const TensorView& x, const TensorView& positions,
                           const TensorView& cosines, const TensorView& sines,
                           std::int32_t interleaved, std::int32_t inverse,
                           const TensorView& out) = nullptr;

    // weight [vocabulary, width] (T or f32), indices [tokens] i64 or i32, out [tokens, width] T
    KernelStatus (*embedding)(const KernelContext&, const TensorView& weight,
                              const TensorView& indices, const TensorView& out) = nullptr;
    // grad_weight (f32, or f64) is added to, rows in order of position: deterministic
    KernelStatus (*embedding_backward)(const KernelContext&, const TensorView& grad_out,
                                       const TensorView& indices,
                                       const TensorView& grad_weight) = nullptr;
    KernelStatus (*attention)(const KernelContext&, const AttentionArguments&) = nullptr;
    KernelStatus (*attention_backward)(const KernelContext&,
                                       const AttentionBackwardArguments&) = nullptr;
    KernelStatus (*linear_cross_entropy)(const KernelContext&,
                                         const LinearCrossEntropyArguments&) = nullptr;

    // randomness
    // uniform: [a, b); normal: mean a, standard deviation b.
    KernelStatus (*random_fill)(const KernelContext&, RandomDistribution, double a, double b,
                                const PhiloxKey&, const TensorView& out) = nullptr;
    // in, out [rows, columns]: out = in * keep / (1 - probability); the backward pass is the same
    // call.
    KernelStatus (*dropout)(const KernelContext&, const TensorView& in, double probability,
                            const PhiloxKey&, const TensorView& out) = nullptr;
    // One draw a row from unnormalised log-probabilities [rows, columns] (-inf: never); out i64
    // [rows].
    KernelStatus (*categorical)(const KernelContext&, const TensorView& logits, const PhiloxKey&,
                                const TensorView& out) = nullptr;

    // optimizer, over arenas
    // Adds up squares over all unfrozen segments in a fixed order; *out in double.
    KernelStatus (*sum_of_squares)(const KernelContext&, const float* data,
                                   const ArenaSegment* segments, std::int64_t segment_count,
                                   double* out) = nullptr;
    // Turns the sum of squares into norm, clip coefficient and skip flag, and chooses the next loss
    // scale; advances step_count unless skipped.
    KernelStatus (*prepare_step)(const KernelContext&, const double* sum_of_squares,
                                 StepScalars*) = nullptr;
    KernelStatus (*adamw)(const KernelContext&, const AdamWArguments&) = nullptr;
};

}  // namespace tempra

// c = activation(a @ b + bias) + residual, or c += a @ b: which part does it.
//
// cuBLASLt makes the products (src/gemm_cublas.cpp), with bias, residual, accumulation and the tanh
// GELU and its derivative in its epilogues. Other activations take fp32 sums in scratch memory and
// one more pass here: 4 bytes written and read per element of c beside what it itself moves. What
// cuBLASLt has no algorithm for, and products without terms, go to the kernel of gemm_general.cu.
//
// fp32 products are fp32 throughout (no tf32). An fp32 b beside a bf16 or fp16 a is rounded to that
// first. A bias of another dtype than c is brought to c's, as cuBLASLt asks: beside 16-bit results
// the bias is rounded too, which the CPU does not do. Deterministic: see src/gemm_cublas.cpp.
#include <optional>

#include "devices.h"
#include "element_map.cuh"
#include "gemm_finish.cuh"
#include "gemm_parts.h"
#include "gemm_plan.h"
#include "parameter_types.cuh"

namespace tempra::cuda {

namespace {

template <class C>
__global__ void __launch_bounds__(kElementwiseThreads)
    finish_elements(const float* sums, std::int64_t elements, std::int64_t columns,
                    const __grid_constant__ GemmEpilogue<C> epilogue) {
    const std::int64_t at = thread_number();
    if (at >= elements) return;
    const std::int64_t row = at / columns;
    epilogue.finish(sums[at], 0, row, at - row * columns);
}

// A view of the same sizes over scratch memory, back to back; the last two dimensions keep their
// order in memory.
TensorView packed_like(const TensorView& matrix, DType dtype, bool with_batches) {
    TensorView view = matrix;
    view.dtype = dtype;
    const std::int64_t rows = matrix.size(-2), columns = matrix.size(-1);
    const bool by_columns = matrix.stride(-2) == 1 && matrix.stride(-1) != 1;
    view.strides[view.dimensions - 2] = by_columns ? 1 : columns;
    view.strides[view.dimensions - 1] = by_columns ? rows : 1;
    if (view.dimensions == 3) view.strides[0] = with_batches ? rows * columns : 0;
    return view;
}

// Copies an operand that cuBLASLt does not take as it is: of another dtype, or strided both ways.
KernelStatus make_ready(const KernelContext& context, DType dtype, TensorView& matrix,
                        std::optional<Scratch>& scratch) {
    GemmOperand operand;
    if (matrix.dtype == dtype && gemm_operand(matrix, operand)) return kKernelOk;
    const bool batches = matrix.dimensions == 3 && matrix.sizes[0] > 1 && matrix.strides[0] != 0;
    TensorView ready = packed_like(matrix, dtype, batches);
    const std::int64_t elements =
        (batches ? matrix.sizes[0] : 1) * matrix.size(-2) * matrix.size(-1);
    scratch.emplace(elements * size_of(dtype), context.stream);
    if (!scratch->ok()) return kKernelOutOfMemory;
    ready.data = scratch->as<void>();
    TensorView from = matrix, to = ready;
    if (from.dimensions == 3 && !batches) {
        from.sizes[0] = to.sizes[0] = 1;
    }
    const KernelStatus status = kernel_table().copy(context, from, to);
    matrix = ready;
    return status;
}

KernelStatus make_bias_ready(const KernelContext& context, DType dtype, TensorView& bias,
                             std::optional<Scratch>& scratch) {
    if (!bias.present() || (bias.dtype == dtype && bias.stride(0) == 1)) return kKernelOk;
    TensorView ready = bias;
    ready.dtype = dtype;
    ready.strides[0] = 1;
    scratch.emplace(bias.size(0) * size_of(dtype), context.stream);
    if (!scratch->ok()) return kKernelOutOfMemory;
    ready.data = scratch->as<void>();
    const KernelStatus status = kernel_table().copy(context, bias, ready);
    bias = ready;
    return status;
}

KernelStatus multiply_and_finish(const KernelContext& context, const GemmArguments& g) {
    GemmArguments product;
    product.a = g.a;
    product.b = g.b;
    product.c = packed_like(g.c, DType::f32, false);
    const Scratch sums(g.c.size(-2) * g.c.size(-1) * 4, context.stream);
    if (!sums.ok()) return kKernelOutOfMemory;
    product.c.data = sums.as<void>();
    const std::int64_t columns = g.c.size(-1);
    product.c.strides[product.c.dimensions - 2] = columns;
    product.c.strides[product.c.dimensions - 1] = 1;
    const KernelStatus status = multiply_by_cublas(context, product);
    return status == kKernelOk ? finish_sums(context, sums.as<float>(), g) : status;
}

bool has_supported_dtypes(const GemmArguments& g) {
    const DType a = g.a.dtype, b = g.b.dtype, c = g.c.dtype;
    if (a == DType::f32) return b == DType::f32 && c == DType::f32;
    if (a != DType::bf16 && a != DType::f16) return false;
    return (b == a || b == DType::f32) && (c == a || c == DType::f32);
}

KernelStatus gemm(const KernelContext& context, const GemmArguments& arguments) {
    GemmArguments g = arguments;
    if (!has_supported_dtypes(g)) return kKernelUnsupportedDtype;
    if (g.bias.present() && g.bias.dtype != g.a.dtype && g.bias.dtype != DType::f32) {
        return kKernelUnsupportedDtype;
    }
    if (g.packed_b != nullptr) return fail(kKernelFailed, "gemm: packed operands are the CPU's");
    KernelStatus status = check_launch("gemm", context, 1);
    if (status != kKernelOk || g.c.numel() == 0) return status;
    if (g.c.size(-1) > 1 && g.c.stride(-1) != 1) {
        return fail(kKernelFailed, "gemm: c with rows of unit stride is needed");
    }
    const bool batched = g.c.dimensions == 3 && g.c.sizes[0] > 1;
    const GemmFinish finish = gemm_finish(g);
    if (g.a.size(-1) == 0 || (batched && finish == GemmFinish::after_product)) {
        return multiply_generally(context, g);
    }
    std::optional<Scratch> a, b, bias;
    status = make_ready(context, g.a.dtype, g.a, a);
    if (status == kKernelOk) status = make_ready(context, g.a.dtype, g.b, b);
    if (status != kKernelOk) return status;
    if (finish == GemmFinish::in_product) {
        GemmArguments fused = g;
        status = make_bias_ready(context, g.c.dtype, fused.bias, bias);
        if (status == kKernelOk) status = multiply_by_cublas(context, fused);
        if (status != kNoAlgorithm) return status;
    }
    if (!batched) {
        status = multiply_and_finish(context, g);
        if (status != kNoAlgorithm) return status;
    }
    return multiply_generally(context, g);
}

std::int64_t gemm_packed_bytes(const TensorView&) { return 0; }

KernelStatus gemm_pack(const KernelContext&, const TensorView&, void*) {
    return fail(kKernelFailed, "gemm_pack: operands are not packed on CUDA");
}

}  // namespace

KernelStatus finish_sums(const KernelContext& context, const float* sums, const GemmArguments& g) {
    const std::int64_t elements = g.c.size(-2) * g.c.size(-1);
    const std::int64_t blocks = grid_for(elements, kElementwiseThreads);
    const KernelStatus status = check_launch("gemm: finish", context, blocks);
    if (status != kKernelOk || blocks == 0) return status;
    const auto launch = [&](auto epilogue, auto kernel) {
        kernel<<<static_cast<unsigned>(blocks), kElementwiseThreads, 0,
                 static_cast<cudaStream_t>(context.stream)>>>(sums, elements, g.c.size(-1),
                                                              epilogue);
        return finish_launch("gemm: finish", context.stream);
    };
    return with_compute_dtype(g.c.dtype, [&](auto tag) -> KernelStatus {
        using C = typename decltype(tag)::type;
        return launch(gemm_epilogue_of<C>(g), finish_elements<C>);
    });
}

void register_gemm(KernelTable& table) {
    table.gemm = gemm;
    table.gemm_packed_bytes = gemm_packed_bytes;
    table.gemm_pack = gemm_pack;
}

}  // namespace tempra::cuda

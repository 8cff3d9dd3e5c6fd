// A libcublasLt.so.13 for the emulated device: the functions that gemm_cublas.cpp calls, as
// NVIDIA's documentation describes them, and as strict where that documents a limit.
#include "cublas_lt.h"

#include <cmath>
#include <cstring>

#include "tempra/dtype.h"

namespace {

using namespace tempra::cuda;

struct Layout {
    int type;
    std::int64_t rows, columns, stride;
    std::int32_t batches = 1;
    std::int64_t batch_stride = 0;
};
struct Product {
    std::int32_t transpose_a = 0, transpose_b = 0;
    std::uint32_t epilogue = kEpilogueNone;
    const void* bias = nullptr;
    void* auxiliary = nullptr;
    std::int64_t auxiliary_stride = 0;
};
struct Preference {
    std::uint32_t alignments[4] = {256, 256, 256, 256};
};

float read(const void* data, int type, std::int64_t at) {
    if (type == kCublasFloat) return static_cast<const float*>(data)[at];
    if (type == kCublasHalf) return static_cast<float>(static_cast<const _Float16*>(data)[at]);
    return static_cast<const tempra::bfloat16*>(data)[at].to_float();
}
void write(void* data, int type, std::int64_t at, float value) {
    if (type == kCublasFloat) {
        static_cast<float*>(data)[at] = value;
    } else if (type == kCublasHalf) {
        static_cast<_Float16*>(data)[at] = static_cast<_Float16>(value);
    } else {
        static_cast<tempra::bfloat16*>(data)[at] = tempra::bfloat16::from_float(value);
    }
}

// What an emulated stream begins with (include/emulated_stream.h).
struct Stream {
    void (*put)(Stream* stream, void (*run)(void*), void (*destroy)(void*), void* context);
};

constexpr double kScale = 0.79788456080286536, kCubic = 0.044715;

double gelu(double x) { return 0.5 * x * (1 + std::tanh(kScale * (x + kCubic * x * x * x))); }
double gelu_derivative(double x) {
    const double t = std::tanh(kScale * (x + kCubic * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * kScale * (1 + 3 * kCubic * x * x);
}

bool fits(const Layout& a, bool transposed, std::int64_t rows, std::int64_t columns) {
    return (transposed ? a.columns : a.rows) == rows &&
           (transposed ? a.rows : a.columns) == columns && a.stride >= a.rows;
}

bool is_supported(const Product& p, const Layout& a, const Layout& b, const Layout& c,
                  const Layout& d) {
    const std::int64_t k = p.transpose_a != 0 ? a.rows : a.columns;
    if (!fits(a, p.transpose_a != 0, d.rows, k) || !fits(b, p.transpose_b != 0, k, d.columns)) {
        return false;
    }
    if (c.rows != d.rows || c.columns != d.columns || c.stride < c.rows || d.stride < d.rows) {
        return false;
    }
    if (a.type != b.type || c.type != d.type) return false;
    if (a.type == kCublasFloat && d.type != kCublasFloat) return false;
    if ((p.epilogue & kEpilogueBias) != 0 && p.bias == nullptr) return false;
    if ((p.epilogue & 128U) != 0) {
        if (p.auxiliary == nullptr || p.auxiliary_stride % 8 != 0) return false;
        if (p.auxiliary_stride < d.rows ||
            reinterpret_cast<std::uintptr_t>(p.auxiliary) % 16 != 0) {
            return false;
        }
    }
    return true;
}

float finished(const Product& p, int type, float sum, std::int64_t row, std::int64_t column) {
    if ((p.epilogue & kEpilogueBias) != 0) sum += read(p.bias, type, row);
    const std::int64_t at = column * p.auxiliary_stride + row;
    if (p.epilogue == kEpilogueGeluDerivative) {
        return static_cast<float>(static_cast<double>(sum) * gelu_derivative(static_cast<double>(
                                                                 read(p.auxiliary, type, at))));
    }
    if ((p.epilogue & 128U) != 0) write(p.auxiliary, type, at, sum);
    return (p.epilogue & kEpilogueGelu) != 0 ? static_cast<float>(gelu(static_cast<double>(sum)))
                                             : sum;
}

}  // namespace

#define TEMPRA_EXPORTED extern "C" __attribute__((visibility("default")))

TEMPRA_EXPORTED int cublasLtCreate(void** handle) {
    *handle = new int;
    return kCublasOk;
}
TEMPRA_EXPORTED std::size_t cublasLtGetVersion() { return 130000; }
TEMPRA_EXPORTED int cublasLtMatrixLayoutCreate(void** layout, int type, std::uint64_t rows,
                                               std::uint64_t columns, std::int64_t stride) {
    *layout = new Layout{type, static_cast<std::int64_t>(rows), static_cast<std::int64_t>(columns),
                         stride};
    return kCublasOk;
}
TEMPRA_EXPORTED int cublasLtMatrixLayoutDestroy(void* layout) {
    delete static_cast<Layout*>(layout);
    return kCublasOk;
}
TEMPRA_EXPORTED int cublasLtMatrixLayoutSetAttribute(void* layout, int attribute, const void* value,
                                                     std::size_t bytes) {
    auto& l = *static_cast<Layout*>(layout);
    if (attribute == kLayoutBatchCount && bytes == 4) {
        std::memcpy(&l.batches, value, bytes);
    } else if (attribute == kLayoutBatchStride && bytes == 8) {
        std::memcpy(&l.batch_stride, value, bytes);
    } else {
        return 7;
    }
    return kCublasOk;
}
TEMPRA_EXPORTED int cublasLtMatmulDescCreate(void** product, int compute_type, int scale_type) {
    *product = new Product;
    return compute_type == kCublasComputeFloat && scale_type == kCublasFloat ? 0 : 7;
}
TEMPRA_EXPORTED int cublasLtMatmulDescDestroy(void* product) {
    delete static_cast<Product*>(product);
    return kCublasOk;
}
TEMPRA_EXPORTED int cublasLtMatmulDescSetAttribute(void* product, int attribute, const void* value,
                                                   std::size_t bytes) {
    auto& p = *static_cast<Product*>(product);
    const auto take = [&](auto& member) {
        if (bytes != sizeof(member)) return 7;
        std::memcpy(&member, value, bytes);
        return 0;
    };
    switch (attribute) {
        case kProductTransposeA: return take(p.transpose_a);
        case kProductTransposeB: return take(p.transpose_b);
        case kProductEpilogue: return take(p.epilogue);
        case kProductBiasPointer: return take(p.bias);
        case kProductAuxiliaryPointer: return take(p.auxiliary);
        case kProductAuxiliaryStride: return take(p.auxiliary_stride);
        default: return 7;
    }
}
TEMPRA_EXPORTED int cublasLtMatmulPreferenceCreate(void** preference) {
    *preference = new Preference;
    return kCublasOk;
}
TEMPRA_EXPORTED int cublasLtMatmulPreferenceDestroy(void* preference) {
    delete static_cast<Preference*>(preference);
    return kCublasOk;
}
TEMPRA_EXPORTED int cublasLtMatmulPreferenceSetAttribute(void* preference, int attribute,
                                                         const void* value, std::size_t bytes) {
    auto& p = *static_cast<Preference*>(preference);
    if (attribute == kPreferenceWorkspaceBytes) return bytes == 8 ? 0 : 7;
    if (bytes != 4 || attribute < kPreferenceAlignmentA || attribute > kPreferenceAlignmentD) {
        return 7;
    }
    std::memcpy(&p.alignments[attribute - kPreferenceAlignmentA], value, bytes);
    return kCublasOk;
}
TEMPRA_EXPORTED int cublasLtMatmulAlgoGetHeuristic(void*, void* product, void* a, void* b, void* c,
                                                   void* d, void*, int wanted,
                                                   CublasLtChoice* choices, int* found) {
    *found = 0;
    if (wanted < 1 || !is_supported(*static_cast<Product*>(product), *static_cast<Layout*>(a),
                                    *static_cast<Layout*>(b), *static_cast<Layout*>(c),
                                    *static_cast<Layout*>(d))) {
        return kCublasNotSupported;
    }
    *found = 1;
    choices[0] = {};
    choices[0].workspace_bytes = 1024;
    return kCublasOk;
}

namespace {

// One product, with all that its descriptions say.
struct Multiplication {
    Product p;
    Layout la, lb, lc, ld;
    const void *a, *b, *c;
    void* d;
    float scale, added;

    [[nodiscard]] float sum_at(std::int64_t batch, std::int64_t row, std::int64_t column) const {
        const bool ta = p.transpose_a != 0, tb = p.transpose_b != 0;
        const std::int64_t k = ta ? la.rows : la.columns;
        float sum = 0;
        for (std::int64_t i = 0; i < k; ++i) {
            const std::int64_t at = ta ? row * la.stride + i : i * la.stride + row;
            const std::int64_t bt = tb ? i * lb.stride + column : column * lb.stride + i;
            sum += read(a, la.type, batch * la.batch_stride + at) *
                   read(b, lb.type, batch * lb.batch_stride + bt);
        }
        return sum * scale;
    }
    void run() const {
        for (std::int64_t batch = 0; batch < ld.batches; ++batch) {
            for (std::int64_t column = 0; column < ld.columns; ++column) {
                for (std::int64_t row = 0; row < ld.rows; ++row) {
                    float sum = sum_at(batch, row, column);
                    if (added != 0) {
                        const std::int64_t at = batch * lc.batch_stride + column * lc.stride + row;
                        sum += added * read(c, lc.type, at);
                    }
                    write(d, ld.type, batch * ld.batch_stride + column * ld.stride + row,
                          finished(p, ld.type, sum, row, column));
                }
            }
        }
    }
};

}  // namespace

TEMPRA_EXPORTED int cublasLtMatmul(void*, void* product, const void* alpha, const void* a,
                                   void* a_layout, const void* b, void* b_layout, const void* beta,
                                   const void* c, void* c_layout, void* d, void* d_layout,
                                   const CublasLtAlgorithm*, void* workspace,
                                   std::size_t workspace_bytes, CUstream_st* stream) {
    if (workspace == nullptr || workspace_bytes < 1024 || stream == nullptr) return 7;
    auto* const work = new Multiplication{*static_cast<Product*>(product),
                                          *static_cast<Layout*>(a_layout),
                                          *static_cast<Layout*>(b_layout),
                                          *static_cast<Layout*>(c_layout),
                                          *static_cast<Layout*>(d_layout),
                                          a,
                                          b,
                                          c,
                                          d,
                                          *static_cast<const float*>(alpha),
                                          *static_cast<const float*>(beta)};
    if (!is_supported(work->p, work->la, work->lb, work->lc, work->ld)) {
        delete work;
        return kCublasNotSupported;
    }
    auto* const on = reinterpret_cast<Stream*>(stream);
    on->put(
        on, [](void* context) { static_cast<Multiplication*>(context)->run(); },
        [](void* context) { delete static_cast<Multiplication*>(context); }, work);
    return kCublasOk;
}

// Uniform and normal numbers, dropout and categorical draws from Philox4x32-10 counters.
//
//   uniform   a + (b - a) * u, u of 24 bits (53 for f64), below b
//   normal    a + b * z by Box-Muller: z0, z1 = sqrt(-2 ln u0) * (cos, sin)(2 pi u1)
//   dropout   in * keep / (1 - probability), keep where the element's word >= the threshold
//   categorical  inverse distribution function: the first i with sum_{j <= i} exp(x_j - max) above
//             u * total
//
// Bytes moved: out once (and in once); categorical reads its row three times, from cache. Mapping:
// rows and fixed ranges of columns over threads. Every element is a function of its counter alone,
// so results depend neither on threads, chunks nor, as this file is compiled without contraction
// into fused multiply-adds, on the instruction set (categorical excepted: sums have its lanes).
// In f64 element e takes words 2 * (e % 2) and the next of counter e / 2.
//
// J. Salmon et al.: Parallel random numbers: as easy as 1, 2, 3 (SC 2011). G. Box, M. Muller: A
// note on the generation of random normal deviates (1958).
#include <cmath>
#include <cstring>

#include "kernels/compute_dtype.h"
#include "kernels/line_nest.h"
#include "kernels/register.h"
#include "kernels/strided_loop.h"
#include "memory/scratch.h"
#include "simd/row_loop.h"
#include "simd/vec_philox.h"
#include "simd/vec_trigonometry.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

// Columns per task: a multiple of every ISA's batch, so that tasks start at whole batches.
constexpr std::int64_t kColumnChunk = 32768;

// body(row, begin, end) covers rows x columns in parallel.
template <class Body>
void for_each_segment(std::int64_t rows, std::int64_t columns, const Body& body) {
    if (columns == 0) return;
    const std::int64_t chunks = (columns + kColumnChunk - 1) / kColumnChunk;
    parallel_for(rows * chunks, lines_per_chunk(columns),
                 [&](std::int64_t first, std::int64_t last) {
                     for (std::int64_t task = first; task < last; ++task) {
                         const std::int64_t begin = task % chunks * kColumnChunk;
                         const std::int64_t end =
                             begin + kColumnChunk < columns ? begin + kColumnChunk : columns;
                         body(task / chunks, begin, end);
                     }
                 });
}

PhiloxBatch batch_at(const PhiloxKey& key, std::int64_t row, std::int64_t element) {
    return philox_batch(key.seed, key.step, key.ordinal,
                        key.row_offset + static_cast<std::uint32_t>(row),
                        static_cast<std::uint32_t>(element / 4));
}

// body(batch words of one vector, first element, lanes), for elements [begin, end) of a row.
template <class Body>
void for_each_word_vector(const PhiloxKey& key, std::int64_t row, std::int64_t begin,
                          std::int64_t end, const Body& body) {
    constexpr std::int64_t kStep = kLanes<float>;
    std::int64_t e = begin;
    for (; e + kPhiloxBatch <= end; e += kPhiloxBatch) {
        const PhiloxBatch batch = batch_at(key, row, e);
        for (int j = 0; j < 4; ++j) body(batch.words[j], e + j * kStep, AllLanes{});
    }
    if (e >= end) return;
    const PhiloxBatch batch = batch_at(key, row, e);
    for (int j = 0; j < 4 && e < end; ++j, e += kStep) {
        body(batch.words[j], e, FirstLanes{end - e < kStep ? end - e : kStep});
    }
}

// (word >> 8) / 2^24: exact.
inline VecFloat unit_interval(VecUint32 words) {
    return __builtin_convertvector(vec_cast<VecInt32>(words >> 8), VecFloat) * 0x1p-24F;
}

struct Range {
    double a, b;
    float below;  // the largest value of the output's dtype under b
};

template <class T>
float largest_below(double b) {
    float value = static_cast<float>(b);
    if constexpr (__is_same(T, bfloat16)) value = bfloat16::from_float(value).to_float();
    if (static_cast<double>(value) < b) return value;
    std::uint32_t raw;
    std::memcpy(&raw, &value, sizeof(raw));
    const std::uint32_t unit = __is_same(T, bfloat16) ? 0x10000U : 1U;
    if (value == 0) {
        raw = 0x80000000U + (__is_same(T, bfloat16) ? 0x10000U : 1U);
    } else {
        raw = value > 0 ? raw - unit : raw + unit;
    }
    std::memcpy(&value, &raw, sizeof(raw));
    return value;
}

template <class T>
void fill_uniform(const PhiloxKey& key, const Range& range, std::int64_t row, std::int64_t begin,
                  std::int64_t end, T* out) {
    const float a = static_cast<float>(range.a), width = static_cast<float>(range.b - range.a);
    const float limit = range.b > range.a ? range.below : __builtin_inff();
    for_each_word_vector(key, row, begin, end, [&](VecUint32 words, std::int64_t e, auto lanes) {
        VecFloat v = a + width * unit_interval(words);
        if constexpr (__is_same(T, bfloat16)) {  // what the store will round to
            v = from_bfloat16_bits(to_bfloat16_bits(v));
        }
        store<float>(out + (e - begin), v > limit ? broadcast<float>(limit) : v, lanes);
    });
}

// Words 0 and 1 of a counter give two normal numbers, words 2 and 3 the other two: in a vector, the
// even lanes hold u0 and the odd ones u1.
inline VecFloat box_muller(VecUint32 words) {
    const VecInt32 odd = vec_cast<VecInt32>((VecUint64{} + (std::uint64_t{0xFFFFFFFF} << 32)));
    const VecUint64 pairs = vec_cast<VecUint64>(words);
    const VecUint32 exchanged = vec_cast<VecUint32>((pairs >> 32) | (pairs << 32));
    const VecFloat first = unit_interval(odd ? exchanged : words);
    const VecFloat second = unit_interval(odd ? words : exchanged);
    const VecFloat radius = square_root<float>(-2.0F * log(first + 0x1p-24F));  // u0 in (0, 1]
    VecFloat sine, cosine;
    sin_cos_turns(second, sine, cosine);
    return radius * (odd ? sine : cosine);
}

template <class T>
void fill_normal(const PhiloxKey& key, const Range& range, std::int64_t row, std::int64_t begin,
                 std::int64_t end, T* out) {
    const float mean = static_cast<float>(range.a), deviation = static_cast<float>(range.b);
    for_each_word_vector(key, row, begin, end, [&](VecUint32 words, std::int64_t e, auto lanes) {
        store<float>(out + (e - begin), mean + deviation * box_muller(words), lanes);
    });
}

#if defined(TEMPRA_ISA_IS_baseline)
void fill_doubles(RandomDistribution distribution, const PhiloxKey& key, const Range& range,
                  std::int64_t row, std::int64_t begin, std::int64_t end, double* out) {
    for (std::int64_t e = begin; e < end; ++e) {
        const PhiloxBlock block = philox_block(key.seed, key.step, key.ordinal,
                                               key.row_offset + static_cast<std::uint32_t>(row),
                                               static_cast<std::uint32_t>(e / 2));
        const double first = philox_uniform(block.words[0], block.words[1]);
        const double second = philox_uniform(block.words[2], block.words[3]);
        double value;
        if (distribution == RandomDistribution::uniform) {
            value = range.a + (range.b - range.a) * (e % 2 == 0 ? first : second);
            if (range.b > range.a && value >= range.b) value = std::nextafter(range.b, range.a);
        } else {
            const double radius = std::sqrt(-2.0 * std::log(first + 0x1p-53));
            const double angle = 2 * M_PI * second;
            value = range.a + range.b * radius * (e % 2 == 0 ? std::cos(angle) : std::sin(angle));
        }
        out[e - begin] = value;
    }
}
#endif

// `out` holds rows x columns back to back.
KernelStatus fill_rows(RandomDistribution distribution, double a, double b, const PhiloxKey& key,
                       DType dtype, void* out, std::int64_t rows, std::int64_t columns) {
    return with_compute_dtype(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const Range range = {a, b, largest_below<T>(b)};
        for_each_segment(rows, columns,
                         [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
                             T* const to = static_cast<T*>(out) + row * columns + begin;
                             if constexpr (__is_same(T, double)) {
                                 fill_doubles(distribution, key, range, row, begin, end, to);
                             } else if (distribution == RandomDistribution::uniform) {
                                 fill_uniform(key, range, row, begin, end, to);
                             } else {
                                 fill_normal(key, range, row, begin, end, to);
                             }
                         });
        return kKernelOk;
    });
}

void move_elements(const void* context, char* const* operands, std::int64_t n) {
    std::memcpy(operands[0], operands[1],
                static_cast<std::size_t>(n * *static_cast<const std::int64_t*>(context)));
}

KernelStatus random_fill(const KernelContext&, RandomDistribution distribution, double a, double b,
                         const PhiloxKey& key, const TensorView& out) {
    std::int64_t count = 1;
    TensorView packed = out;
    for (int d = out.dimensions - 1; d >= 0; --d) {
        packed.strides[d] = count;
        count *= out.sizes[d];
    }
    if (count == 0) return kKernelOk;
    const std::int64_t rows = out.dimensions > 1 ? out.sizes[0] : 1;
    bool contiguous = true;
    for (int d = 0; d < out.dimensions; ++d) {
        contiguous = contiguous && (out.sizes[d] == 1 || out.strides[d] == packed.strides[d]);
    }
    if (contiguous) {
        return fill_rows(distribution, a, b, key, out.dtype, out.data, rows, count / rows);
    }
    const std::int64_t element_size = size_of(out.dtype);
    const Scratch scratch(count * element_size);
    if (!scratch.ok()) return kKernelOutOfMemory;
    packed.data = scratch.as<char>();
    const KernelStatus status =
        fill_rows(distribution, a, b, key, out.dtype, packed.data, rows, count / rows);
    if (status == kKernelOk) run_elementwise(move_elements, &element_size, out, packed);
    return status;
}

struct DropoutRule {
    std::uint32_t threshold;
    bool drops_all;
    double scale;
};

template <class T>
void drop_contiguous(const PhiloxKey& key, const DropoutRule& rule, std::int64_t row,
                     std::int64_t begin, std::int64_t end, const T* in, T* out) {
    if constexpr (__is_same(T, double)) {
        for (std::int64_t e = begin; e < end; ++e) {
            const PhiloxBlock block = philox_block(key.seed, key.step, key.ordinal,
                                                   key.row_offset + static_cast<std::uint32_t>(row),
                                                   static_cast<std::uint32_t>(e / 4));
            const bool keep = !rule.drops_all && block.words[e % 4] >= rule.threshold;
            out[e - begin] = keep ? in[e - begin] * rule.scale : 0.0;
        }
    } else if (rule.drops_all) {
        std::memset(out, 0, static_cast<std::size_t>(end - begin) * sizeof(T));
    } else {
        const float scale = static_cast<float>(rule.scale);
        for_each_word_vector(
            key, row, begin, end, [&](VecUint32 words, std::int64_t e, auto lanes) {
                const VecFloat x = load<float>(in + (e - begin), lanes) * scale;
                store<float>(out + (e - begin), words >= rule.threshold ? x : VecFloat{}, lanes);
            });
    }
}

template <class T>
void drop_segment(const PhiloxKey& key, const DropoutRule& rule, const TensorView& in,
                  const TensorView& out, std::int64_t row, std::int64_t begin, std::int64_t end) {
    const T* from = in.as<T>() + row * in.strides[0];
    T* to = out.as<T>() + row * out.strides[0];
    const std::int64_t in_step = in.strides[1], out_step = out.strides[1];
    if (in_step == 1 && out_step == 1) {
        return drop_contiguous(key, rule, row, begin, end, from + begin, to + begin);
    }
    alignas(64) T block[kBlockElements];
    for (; begin < end; begin += kBlockElements) {
        const std::int64_t stop = begin + kBlockElements < end ? begin + kBlockElements : end;
        gather_strided(reinterpret_cast<const char*>(from + begin * in_step), in_step, sizeof(T),
                       stop - begin, reinterpret_cast<char*>(block));
        drop_contiguous(key, rule, row, begin, stop, block, block);
        scatter_strided(reinterpret_cast<const char*>(block), sizeof(T), stop - begin,
                        reinterpret_cast<char*>(to + begin * out_step), out_step);
    }
}

KernelStatus dropout(const KernelContext&, const TensorView& in, double probability,
                     const PhiloxKey& key, const TensorView& out) {
    if (in.dtype != out.dtype) return kKernelUnsupportedDtype;
    if (in.dimensions != 2 || !(probability >= 0 && probability <= 1)) return kKernelFailed;
    const DropoutRule rule = {philox_drop_threshold(probability), probability >= 1,
                              1.0 / (1.0 - probability)};
    return with_compute_dtype(in.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        for_each_segment(in.sizes[0], in.sizes[1],
                         [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
                             drop_segment<T>(key, rule, in, out, row, begin, end);
                         });
        return kKernelOk;
    });
}

// exp(x - peak) of a block of logits, in the arithmetic type.
template <class T>
void block_weights(const T* row, std::int64_t stride, std::int64_t begin, std::int64_t n,
                   Arithmetic<T> peak, Arithmetic<T>* weights) {
    using A = Arithmetic<T>;
    for (std::int64_t i = 0; i < n; ++i)
        weights[i] = to_arithmetic(row[(begin + i) * stride]) - peak;
    for_each_vector<A>(n, [&](std::int64_t i, auto lanes) {
        store<A>(weights + i, exp(load<A>(weights + i, lanes)), lanes);
    });
}

template <class A>
double sum_of(const A* values, std::int64_t n) {
    double sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(values[i]);
    return sum;
}

// The drawn index, or -1 where the row has no finite entry, or one that is NaN or +inf.
template <class T>
std::int64_t draw(const T* row, std::int64_t stride, std::int64_t columns, double u) {
    using A = Arithmetic<T>;
    const A infinity = static_cast<A>(__builtin_inf());
    A peak = -infinity;
    for (std::int64_t i = 0; i < columns; ++i) {
        const A x = to_arithmetic(row[i * stride]);
        if (!(x < infinity)) return -1;
        peak = x > peak ? x : peak;
    }
    if (peak == -infinity) return -1;
    A weights[kBlockElements];
    const auto block = [&](std::int64_t begin) {
        const std::int64_t n = columns - begin < kBlockElements ? columns - begin : kBlockElements;
        block_weights(row, stride, begin, n, peak, weights);
        return n;
    };
    double total = 0;
    for (std::int64_t begin = 0; begin < columns; begin += kBlockElements) {
        total += sum_of(weights, block(begin));
    }
    // The last entry of positive weight stands in where rounding leaves the target unreached.
    double sum = 0;
    std::int64_t last = -1;
    for (std::int64_t begin = 0; begin < columns; begin += kBlockElements) {
        const std::int64_t n = block(begin);
        for (std::int64_t i = 0; i < n; ++i) {
            if (!(weights[i] > A(0))) continue;
            last = begin + i;
            sum += static_cast<double>(weights[i]);
            if (sum > u * total) return last;
        }
    }
    return last;
}

KernelStatus categorical(const KernelContext&, const TensorView& logits, const PhiloxKey& key,
                         const TensorView& out) {
    if (out.dtype != DType::i64) return kKernelUnsupportedDtype;
    const std::int64_t columns = logits.sizes[1];
    int failed = 0;
    const KernelStatus status = with_compute_dtype(logits.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        parallel_for(logits.sizes[0], lines_per_chunk(4 * columns),
                     [&](std::int64_t first, std::int64_t last) {
                         for (std::int64_t row = first; row < last; ++row) {
                             const PhiloxBlock block =
                                 philox_block(key.seed, key.step, key.ordinal,
                                              key.row_offset + static_cast<std::uint32_t>(row), 0);
                             const std::int64_t drawn =
                                 draw(logits.as<T>() + row * logits.strides[0], logits.strides[1],
                                      columns, philox_uniform(block.words[0], block.words[1]));
                             if (drawn < 0) {
                                 __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
                             } else {
                                 out.as<std::int64_t>()[row * out.strides[0]] = drawn;
                             }
                         }
                     });
        return kKernelOk;
    });
    return failed != 0 ? kKernelFailed : status;
}

}  // namespace

void register_random(KernelTable& table) {
    table.random_fill = random_fill;
    table.dropout = dropout;
    table.categorical = categorical;
}

}  // namespace tempra::cpu::TEMPRA_ISA

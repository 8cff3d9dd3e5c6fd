#include "attention_case.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "dispatch/kernel_table.h"
#include "dispatch/select.h"
#include "random/philox.h"

namespace tempra::testing {
namespace {

constexpr PhiloxKey kDropoutKey{0x1234567890ABCDEFU, 11, 5, 1000};

std::int64_t total(const std::vector<std::int64_t>& lengths) {
    std::int64_t sum = 0;
    for (const std::int64_t length : lengths) sum += length;
    return sum;
}

std::int64_t longest(const std::vector<std::int64_t>& lengths) {
    return lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
}

std::vector<std::int32_t> offsets_of(const std::vector<std::int64_t>& lengths, std::int64_t first) {
    std::vector<std::int32_t> offsets{static_cast<std::int32_t>(first)};
    for (const std::int64_t length : lengths) {
        offsets.push_back(offsets.back() + static_cast<std::int32_t>(length));
    }
    return offsets;
}

double rounded(double value, DType dtype) {
    if (dtype == DType::f64) return value;
    const float single = static_cast<float>(value);
    return dtype == DType::bf16 ? bfloat16::from_float(single).to_float() : single;
}

// Storage of one dtype behind a view.
class Buffer {
  public:
    Buffer(std::int64_t count, DType dtype)
        : dtype_(dtype), bytes_(static_cast<std::size_t>(count * size_of(dtype)), 0xFF) {}
    void set(std::int64_t i, double value) {
        if (dtype_ == DType::f64) at<double>()[i] = value;
        if (dtype_ == DType::f32) at<float>()[i] = static_cast<float>(value);
        if (dtype_ == DType::bf16) {
            at<bfloat16>()[i] = bfloat16::from_float(static_cast<float>(value));
        }
    }
    [[nodiscard]] double get(std::int64_t i) const {
        if (dtype_ == DType::f64) return at<double>()[i];
        if (dtype_ == DType::f32) return at<float>()[i];
        return at<bfloat16>()[i].to_float();
    }
    [[nodiscard]] TensorView view(std::int64_t offset, std::int64_t rows, std::int64_t heads,
                                  std::int64_t dim, std::int64_t stride) {
        TensorView result;
        result.data = bytes_.data() + offset * size_of(dtype_);
        result.dimensions = 3;
        result.sizes[0] = rows, result.sizes[1] = heads, result.sizes[2] = dim;
        result.strides[0] = stride, result.strides[1] = dim, result.strides[2] = 1;
        result.dtype = dtype_;
        return result;
    }

  private:
    template <class T>
    T* at() {
        return reinterpret_cast<T*>(bytes_.data());
    }
    template <class T>
    const T* at() const {
        return reinterpret_cast<const T*>(bytes_.data());
    }
    DType dtype_;
    std::vector<unsigned char> bytes_;
};

// A [rows, heads, dim] tensor whose rows lie `stride` apart, from `offset`.
struct Operand {
    Buffer* buffer;
    std::int64_t offset, rows, heads, dim, stride;

    [[nodiscard]] TensorView view() const { return buffer->view(offset, rows, heads, dim, stride); }
    void fill(const std::vector<double>& values) const {
        for (std::int64_t i = 0; i < rows * heads * dim; ++i) {
            buffer->set(offset + i / (heads * dim) * stride + i % (heads * dim), values[i]);
        }
    }
    void read(std::vector<double>& values) const {
        values.resize(static_cast<std::size_t>(rows * heads * dim));
        for (std::int64_t i = 0; i < rows * heads * dim; ++i) {
            values[i] = buffer->get(offset + i / (heads * dim) * stride + i % (heads * dim));
        }
    }
};

TensorView vector_view(void* data, std::int64_t size, DType dtype) {
    TensorView view;
    view.data = data;
    view.dimensions = 1;
    view.sizes[0] = size;
    view.strides[0] = 1;
    view.dtype = dtype;
    return view;
}

// One (sequence, head) of the reference.
struct ReferenceHead {
    const AttentionCase& c;
    AttentionValues& x;
    std::int64_t q_row, queries, k_row, keys, head, kv_head;

    [[nodiscard]] std::int64_t q_at(std::int64_t i) const {
        return ((q_row + i) * c.heads + head) * c.head_dim;
    }
    [[nodiscard]] std::int64_t k_at(std::int64_t j) const {
        return ((k_row + j) * c.kv_heads + kv_head) * c.head_dim;
    }
    [[nodiscard]] double dot(const std::vector<double>& a, std::int64_t a_at,
                             const std::vector<double>& b, std::int64_t b_at) const {
        double sum = 0;
        for (std::int64_t d = 0; d < c.head_dim; ++d) sum += a[a_at + d] * b[b_at + d];
        return sum;
    }
    [[nodiscard]] bool visible(std::int64_t i, std::int64_t j) const {
        const std::int64_t last = c.causal ? i + keys - queries : keys - 1;
        return j <= last && (c.window == 0 || j > last - c.window);
    }
    [[nodiscard]] double keep(std::int64_t i, std::int64_t j) const {
        if (c.dropout == 0.0F) return 1.0;
        const std::uint64_t element = static_cast<std::uint64_t>(head * kDropoutKeys + j);
        const PhiloxBlock block =
            philox_block(kDropoutKey.seed, kDropoutKey.step, kDropoutKey.ordinal,
                         static_cast<std::uint32_t>(kDropoutKey.row_offset + q_row + i),
                         static_cast<std::uint32_t>(element / 4));
        const bool kept = block.words[element % 4] >= philox_drop_threshold(double{c.dropout});
        return kept ? 1.0 / (1.0 - double{c.dropout}) : 0.0;
    }

    void run_row(std::int64_t i) const {
        std::vector<double> scores(static_cast<std::size_t>(keys));
        double highest = -std::numeric_limits<double>::infinity();
        for (std::int64_t j = 0; j < keys; ++j) {
            scores[j] = c.score_scale() * dot(x.q, q_at(i), x.k, k_at(j));
            if (visible(i, j)) highest = std::max(highest, scores[j]);
        }
        double sum = 0;
        for (std::int64_t j = 0; j < keys; ++j) {
            if (visible(i, j)) sum += std::exp(scores[j] - highest);
        }
        x.log_sum_exp[head * c.query_rows() + q_row + i] = highest + std::log(sum);
        if (sum == 0.0) return;
        std::vector<double> weights(scores.size(), 0.0);
        for (std::int64_t j = 0; j < keys; ++j) {
            if (visible(i, j)) weights[j] = std::exp(scores[j] - highest) / sum;
            for (std::int64_t d = 0; d < c.head_dim; ++d) {
                x.out[q_at(i) + d] += weights[j] * keep(i, j) * x.v[k_at(j) + d];
            }
        }
        const double delta = dot(x.grad_out, q_at(i), x.out, q_at(i));
        for (std::int64_t j = 0; j < keys; ++j) {
            const double grad_weight = keep(i, j) * dot(x.grad_out, q_at(i), x.v, k_at(j));
            const double grad_score = c.score_scale() * weights[j] * (grad_weight - delta);
            for (std::int64_t d = 0; d < c.head_dim; ++d) {
                x.grad_q[q_at(i) + d] += grad_score * x.k[k_at(j) + d];
                x.grad_k[k_at(j) + d] += grad_score * x.q[q_at(i) + d];
                x.grad_v[k_at(j) + d] += weights[j] * keep(i, j) * x.grad_out[q_at(i) + d];
            }
        }
    }
};

}  // namespace

std::int64_t AttentionCase::query_rows() const { return total(query_lengths) + 2 * leading_rows; }
std::int64_t AttentionCase::key_rows() const { return total(key_lengths) + 2 * leading_rows; }
double AttentionCase::score_scale() const {
    return scale != 0.0F
               ? double{scale}
               : double{static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)))};
}

AttentionValues make_inputs(const AttentionCase& c, DType dtype, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<double> normal;
    const auto draw = [&](std::int64_t count, double magnitude) {
        std::vector<double> values(static_cast<std::size_t>(count));
        for (double& value : values) value = rounded(magnitude * normal(generator), dtype);
        return values;
    };
    AttentionValues values;
    values.q = draw(c.query_rows() * c.heads * c.head_dim, c.magnitude);
    values.k = draw(c.key_rows() * c.kv_heads * c.head_dim, c.magnitude);
    values.v = draw(c.key_rows() * c.kv_heads * c.head_dim, 1.0);
    values.grad_out = draw(c.query_rows() * c.heads * c.head_dim, 1.0);
    return values;
}

void reference_attention(const AttentionCase& c, AttentionValues& values) {
    values.out.assign(values.q.size(), 0.0);
    values.grad_q.assign(values.q.size(), 0.0);
    values.grad_k.assign(values.k.size(), 0.0);
    values.grad_v.assign(values.v.size(), 0.0);
    values.log_sum_exp.assign(static_cast<std::size_t>(c.heads * c.query_rows()), 0.0);
    std::int64_t q_row = c.leading_rows, k_row = c.leading_rows;
    for (std::size_t s = 0; s < c.query_lengths.size(); ++s) {
        for (std::int64_t head = 0; head < c.heads; ++head) {
            const ReferenceHead one{c,     values,           q_row, c.query_lengths[s],
                                    k_row, c.key_lengths[s], head,  head / (c.heads / c.kv_heads)};
            for (std::int64_t i = 0; i < c.query_lengths[s]; ++i) one.run_row(i);
        }
        q_row += c.query_lengths[s];
        k_row += c.key_lengths[s];
    }
}

void run_attention(const AttentionCase& c, cpu::Isa isa, DType dtype, AttentionValues& values) {
    const std::int64_t q_width = c.heads * c.head_dim, k_width = c.kv_heads * c.head_dim;
    const std::int64_t q_rows = c.query_rows(), k_rows = c.key_rows();
    // Separate tensors have gaps between rows too, which the kernels must leave alone.
    const std::int64_t all = q_width + 2 * k_width;
    const std::int64_t q_stride = c.one_buffer ? all : q_width + 5;
    const std::int64_t k_stride = c.one_buffer ? all : k_width + 3;
    Buffer q(std::max(q_rows, k_rows) * all + q_rows * 5, dtype), k(k_rows * k_stride, dtype),
        v(k_rows * k_stride, dtype);
    Buffer grad_q(std::max(q_rows, k_rows) * all + q_rows * 5, dtype),
        grad_k(k_rows * k_stride, dtype), grad_v(k_rows * k_stride, dtype);
    Buffer out(q_rows * q_width, dtype), grad_out(q_rows * q_width, dtype);
    const auto part = [&](Buffer& whole, Buffer& own, std::int64_t offset) {
        return Operand{c.one_buffer ? &whole : &own,
                       c.one_buffer ? offset : 0,
                       k_rows,
                       c.kv_heads,
                       c.head_dim,
                       k_stride};
    };
    const Operand q_operand{&q, 0, q_rows, c.heads, c.head_dim, q_stride};
    const Operand grad_q_operand{&grad_q, 0, q_rows, c.heads, c.head_dim, q_stride};
    const Operand k_operand = part(q, k, q_width), v_operand = part(q, v, q_width + k_width);
    const Operand grad_k_operand = part(grad_q, grad_k, q_width);
    const Operand grad_v_operand = part(grad_q, grad_v, q_width + k_width);
    const Operand out_operand{&out, 0, q_rows, c.heads, c.head_dim, q_width};
    const Operand grad_out_operand{&grad_out, 0, q_rows, c.heads, c.head_dim, q_width};
    q_operand.fill(values.q);
    k_operand.fill(values.k);
    v_operand.fill(values.v);
    grad_out_operand.fill(values.grad_out);

    std::vector<std::int32_t> offsets_q = offsets_of(c.query_lengths, c.leading_rows);
    std::vector<std::int32_t> offsets_k = offsets_of(c.key_lengths, c.leading_rows);
    const DType statistics = dtype == DType::f64 ? DType::f64 : DType::f32;
    Buffer log_sum_exp(c.heads * q_rows, statistics);

    AttentionArguments a;
    a.q = q_operand.view(), a.k = k_operand.view(), a.v = v_operand.view();
    a.out = out_operand.view();
    a.log_sum_exp = log_sum_exp.view(0, c.heads, q_rows, 1, q_rows);
    a.log_sum_exp.dimensions = 2;
    a.log_sum_exp.strides[1] = 1;
    a.offsets_q =
        vector_view(offsets_q.data(), static_cast<std::int64_t>(offsets_q.size()), DType::i32);
    a.offsets_k =
        vector_view(offsets_k.data(), static_cast<std::int64_t>(offsets_k.size()), DType::i32);
    a.scale = static_cast<float>(c.score_scale());
    a.dropout_probability = c.dropout;
    a.dropout_key = kDropoutKey;
    a.causal = c.causal ? 1 : 0;
    a.window = static_cast<std::int32_t>(c.window);
    a.max_query_length = longest(c.query_lengths);
    a.max_key_length = longest(c.key_lengths);
    const KernelTable& table = cpu_kernel_table(isa);
    check_status(table.attention({}, a), "attention", dtype);
    out_operand.read(values.out);
    values.log_sum_exp.resize(static_cast<std::size_t>(c.heads * q_rows));
    for (std::int64_t i = 0; i < c.heads * q_rows; ++i) values.log_sum_exp[i] = log_sum_exp.get(i);

    AttentionBackwardArguments b;
    b.forward = a;
    b.grad_out = grad_out_operand.view();
    b.grad_q = grad_q_operand.view();
    b.grad_k = grad_k_operand.view();
    b.grad_v = grad_v_operand.view();
    check_status(table.attention_backward({}, b), "attention_backward", dtype);
    grad_q_operand.read(values.grad_q);
    grad_k_operand.read(values.grad_k);
    grad_v_operand.read(values.grad_v);
}

double normalised_error(const std::vector<double>& a, const std::vector<double>& b, double floor) {
    if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
    double difference = 0, largest = floor;
    for (std::size_t i = 0; i < a.size(); ++i) {
        if (!std::isfinite(a[i])) return std::numeric_limits<double>::infinity();
        difference = std::max(difference, std::abs(a[i] - b[i]));
        largest = std::max(largest, std::abs(b[i]));
    }
    if (largest == 0.0) return difference;
    return difference / largest;
}

}  // namespace tempra::testing

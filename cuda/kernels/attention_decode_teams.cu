// Chunks of keys of attention_decode.cu for what the tensor cores do not take: fp32, and heads of
// more than 128 elements.
//
// Bytes moved: k and v of the chunk once per four rows (from cache mostly). Thread-to-data: a block
// of 128 threads per chunk, kv head and 4 rows; a team of lanes takes a key, each lane packs of 4
// of its elements. fp32 throughout. Deterministic: teams walk their keys in order and are added up
// in turn.
#include "attention_decode.cuh"
#include "element_map.cuh"
#include "parameter_types.cuh"

namespace tempra::cuda {

namespace {

constexpr int kTeamRows = 4, kTeamPack = 4, kThreads = 128;

template <class T>
struct DecodeTeams {
    const T *q, *k, *v;
    std::int64_t q_row, q_head, k_row, k_head, v_row, v_head;
    AttentionOffsets offsets;
    Partials to;
    float scale;  // to powers of two
    int group, head_dim, team;
    bool aligned;

    __device__ __forceinline__ void load(const T* row, int column,
                                         float (&to_values)[kTeamPack]) const {
        if (aligned && column + kTeamPack <= head_dim) {
            load_whole<T, kTeamPack>(row + column, to_values);
        } else {
            const int left = head_dim - column;
            load_first<T, kTeamPack>(row + column, left < 0 ? 0 : left, 0.0F, to_values);
        }
    }
};

// kEach packs of a row a lane, `team` packs apart.
template <class T, int kEach>
__global__ void __launch_bounds__(kThreads) decode_teams(const __grid_constant__ DecodeTeams<T> p) {
    // [teams, kTeamRows, team * kEach * kTeamPack] in all
    __shared__ float parts[kTeamRows * kThreads * kEach * kTeamPack];
    __shared__ float largest[kThreads][kTeamRows], totals[kThreads][kTeamRows];
    const DecodeBlock block(p.offsets, p.to, p.group, kTeamRows);
    if (block.is_empty(p.to)) return;
    const AttentionSequence& s = block.s;
    const int team = static_cast<int>(threadIdx.x) / p.team, teams = kThreads / p.team;
    const int place = static_cast<int>(threadIdx.x) % p.team, width = p.team * kTeamPack;
    float q[kTeamRows][kEach][kTeamPack], sums[kTeamRows][kEach][kTeamPack] = {};
    float most[kTeamRows], total[kTeamRows] = {};
#pragma unroll
    for (int r = 0; r < kTeamRows; ++r) {
        const int at = block.row + r < block.end_row ? block.row + r : block.row;
        const T* const from = p.q + (s.query_begin + at / p.group) * p.q_row +
                              (block.kv_head * p.group + at % p.group) * p.q_head;
        most[r] = kNothing;
#pragma unroll
        for (int e = 0; e < kEach; ++e) p.load(from, e * width + place * kTeamPack, q[r][e]);
    }
    // All lanes take every turn: they exchange parts of scores.
    for (int base = block.first; base < block.end; base += teams) {
        const bool exists = base + team < block.end;
        const int key = exists ? base + team : block.first;
        const T* const k_row = p.k + (s.key_begin + key) * p.k_row + block.kv_head * p.k_head;
        const T* const v_row = p.v + (s.key_begin + key) * p.v_row + block.kv_head * p.v_head;
        float k[kEach][kTeamPack], v[kEach][kTeamPack];
#pragma unroll
        for (int e = 0; e < kEach; ++e) {
            p.load(k_row, e * width + place * kTeamPack, k[e]);
            p.load(v_row, e * width + place * kTeamPack, v[e]);
        }
#pragma unroll
        for (int r = 0; r < kTeamRows; ++r) {
            float score = 0;
#pragma unroll
            for (int e = 0; e < kEach; ++e) {
#pragma unroll
                for (int i = 0; i < kTeamPack; ++i) score += q[r][e][i] * k[e][i];
            }
            for (int distance = p.team / 2; distance > 0; distance /= 2) {
                score += __shfl_xor_sync(0xFFFFFFFFU, score, distance);
            }
            const int at = block.row + r;
            if (!exists || at >= block.end_row || !s.sees(at / p.group, key)) continue;
            score *= p.scale;
            const float next = fmaxf(most[r], score);
            const float shrink = exp2f(most[r] - next), weight = exp2f(score - next);
            most[r] = next;
            total[r] = total[r] * shrink + weight;
#pragma unroll
            for (int e = 0; e < kEach; ++e) {
#pragma unroll
                for (int i = 0; i < kTeamPack; ++i) {
                    sums[r][e][i] = sums[r][e][i] * shrink + weight * v[e][i];
                }
            }
        }
    }
    const int row_elements = kEach * width;
#pragma unroll
    for (int r = 0; r < kTeamRows; ++r) {
        float* const to = parts + (team * kTeamRows + r) * row_elements + place * kTeamPack;
#pragma unroll
        for (int e = 0; e < kEach; ++e) {
#pragma unroll
            for (int i = 0; i < kTeamPack; ++i) to[e * width + i] = sums[r][e][i];
        }
        if (place != 0) continue;
        largest[team][r] = most[r];
        totals[team][r] = total[r];
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kTeamRows * p.head_dim; i += kThreads) {
        const int r = i / p.head_dim, column = i % p.head_dim;
        if (block.row + r >= block.end_row) continue;
        float highest = kNothing, all = 0, sum = 0;
        for (int t = 0; t < teams; ++t) highest = fmaxf(highest, largest[t][r]);
        for (int t = 0; t < teams; ++t) {
            if (totals[t][r] == 0.0F) continue;
            const float weight = exp2f(largest[t][r] - highest);
            all += weight * totals[t][r];
            sum += weight * parts[(t * kTeamRows + r) * row_elements + column];
        }
        const std::int64_t slot =
            p.to.slot(block.sequence, block.kv_head, block.split, block.row + r);
        p.to.sums[slot * p.to.row_elements + column] = sum;
        if (column != 0) continue;
        p.to.statistics[2 * slot] = highest;
        p.to.statistics[2 * slot + 1] = all;
    }
}

// Whether `kTeamPack` elements of a head can be read as one.
bool has_packs(const TensorView& view) {
    return reinterpret_cast<std::uintptr_t>(view.data) %
                   static_cast<std::uintptr_t>(kTeamPack * size_of(view.dtype)) ==
               0 &&
           view.stride(0) % kTeamPack == 0 && view.stride(1) % kTeamPack == 0;
}

template <class T>
KernelStatus launch(const KernelContext& context, const AttentionArguments& a,
                    const DecodeShape& shape, const Partials& to) {
    DecodeTeams<T> p{};
    p.q = a.q.as<const T>();
    p.k = a.k.as<const T>();
    p.v = a.v.as<const T>();
    p.q_row = a.q.stride(0);
    p.q_head = a.q.stride(1);
    p.k_row = a.k.stride(0);
    p.k_head = a.k.stride(1);
    p.v_row = a.v.stride(0);
    p.v_head = a.v.stride(1);
    p.offsets = attention_offsets(a);
    p.to = to;
    p.scale = static_cast<float>(a.scale) * kLog2E;
    p.group = static_cast<int>(a.q.size(1) / a.k.size(1));
    p.head_dim = static_cast<int>(a.q.size(2));
    p.aligned = has_packs(a.q) && has_packs(a.k) && has_packs(a.v);
    p.team = 1;
    while (p.team < 32 && p.team * kTeamPack < p.head_dim) p.team *= 2;
    const auto kernel = p.head_dim <= 32 * kTeamPack ? decode_teams<T, 1> : decode_teams<T, 4>;
    kernel<<<grid_of(shape, a.k.size(1), kTeamRows), kThreads, 0,
             static_cast<cudaStream_t>(context.stream)>>>(p);
    return finish_launch("attention: decode", context.stream);
}

}  // namespace

KernelStatus decode_by_teams(const KernelContext& context, const AttentionArguments& a,
                             const DecodeShape& shape, const Partials& to) {
    return with_compute_dtype(a.q.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        return launch<T>(context, a, shape, to);
    });
}

}  // namespace tempra::cuda

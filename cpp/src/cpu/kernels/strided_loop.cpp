// Loop nests of strided_loop.h. Bytes moved: each operand once; gathered blocks stay in cache.
#include "kernels/strided_loop.h"

#include <cstring>

#include "tempra/threads.h"

namespace tempra::cpu::TEMPRA_ISA {

namespace {

// Innermost runs shorter than this are gathered several at a time.
constexpr std::int64_t kShortRun = 64;

template <int kBytes>
void gather_sized(const char* from, std::int64_t stride, std::int64_t n, char* to) {
    const std::int64_t step = stride * kBytes;
    for (std::int64_t i = 0; i < n; ++i) std::memcpy(to + i * kBytes, from + i * step, kBytes);
}

template <int kBytes>
void scatter_sized(const char* from, std::int64_t n, char* to, std::int64_t stride) {
    const std::int64_t step = stride * kBytes;
    for (std::int64_t i = 0; i < n; ++i) std::memcpy(to + i * step, from + i * kBytes, kBytes);
}

// A position in the loop nest: the index in each dimension and each operand's element offset.
struct Odometer {
    std::int64_t index[kMaxDimensions];
    std::int64_t offset[kMaxOperands];
};

Odometer odometer_at(const StridedLoop& loop, std::int64_t position) {
    Odometer at{};
    for (int d = loop.dimensions - 1; d >= 0; --d) {
        at.index[d] = position % loop.sizes[d];
        position /= loop.sizes[d];
        for (int k = 0; k < loop.operands; ++k) at.offset[k] += at.index[d] * loop.strides[k][d];
    }
    return at;
}

// Moves on by `n` elements within the innermost run, carrying at its end.
void advance(const StridedLoop& loop, Odometer& at, std::int64_t n) {
    int d = loop.dimensions - 1;
    at.index[d] += n;
    for (int k = 0; k < loop.operands; ++k) at.offset[k] += n * loop.strides[k][d];
    while (at.index[d] == loop.sizes[d] && d > 0) {
        at.index[d] = 0;
        for (int k = 0; k < loop.operands; ++k) {
            at.offset[k] += loop.strides[k][d - 1] - loop.sizes[d] * loop.strides[k][d];
        }
        --d;
        ++at.index[d];
    }
}

struct Blocks {
    alignas(64) char bytes[kMaxOperands][kBlockElements * 8];
};

char* element(const StridedLoop& loop, const Odometer& at, int k) {
    return loop.data[k] + at.offset[k] * loop.element_size[k];
}

// Every operand can be addressed directly: one call per innermost run.
void run_direct(const StridedLoop& loop, std::int64_t begin, std::int64_t end, BlockFunction block,
                const void* context) {
    const int last = loop.dimensions - 1;
    Odometer at = odometer_at(loop, begin);
    while (begin < end) {
        const std::int64_t rest = loop.sizes[last] - at.index[last];
        const std::int64_t n = rest < end - begin ? rest : end - begin;
        char* operands[kMaxOperands];
        for (int k = 0; k < loop.operands; ++k) operands[k] = element(loop, at, k);
        block(context, operands, n);
        begin += n;
        advance(loop, at, n);
    }
}

// Long innermost runs, some operands strided or broadcast along them.
void run_buffered(const StridedLoop& loop, std::int64_t begin, std::int64_t end,
                  BlockFunction block, const void* context) {
    const int last = loop.dimensions - 1;
    Blocks blocks;
    Odometer at = odometer_at(loop, begin);
    bool new_run = true;
    while (begin < end) {
        std::int64_t n = loop.sizes[last] - at.index[last];
        const bool ends_run = n <= kBlockElements && n <= end - begin;
        if (n > kBlockElements) n = kBlockElements;
        if (n > end - begin) n = end - begin;
        char* operands[kMaxOperands];
        for (int k = 0; k < loop.operands; ++k) {
            const std::int64_t stride = loop.strides[k][last];
            operands[k] = stride == 1 ? element(loop, at, k) : blocks.bytes[k];
            if (stride == 1 || k == 0) continue;
            // A broadcast value is spread once per run; its later blocks are no longer.
            if (stride == 0 && !new_run) continue;
            gather_strided(element(loop, at, k), stride, loop.element_size[k], n, blocks.bytes[k]);
        }
        block(context, operands, n);
        if (loop.strides[0][last] != 1) {
            scatter_strided(blocks.bytes[0], loop.element_size[0], n, element(loop, at, 0),
                            loop.strides[0][last]);
        }
        begin += n;
        advance(loop, at, n);
        new_run = ends_run;
    }
}

// Back to back over all dimensions, so that runs can be joined.
bool is_linear(const StridedLoop& loop, int k) {
    std::int64_t expected = 1;
    for (int d = loop.dimensions - 1; d >= 0; --d) {
        if (loop.strides[k][d] != expected) return false;
        expected *= loop.sizes[d];
    }
    return true;
}

// Short innermost runs: blocks span several of them.
void run_joined(const StridedLoop& loop, std::int64_t begin, std::int64_t end, BlockFunction block,
                const void* context) {
    const int last = loop.dimensions - 1;
    Blocks blocks;
    bool linear[kMaxOperands];
    for (int k = 0; k < loop.operands; ++k) linear[k] = is_linear(loop, k);
    Odometer at = odometer_at(loop, begin);
    while (begin < end) {
        const std::int64_t n = end - begin < kBlockElements ? end - begin : kBlockElements;
        const Odometer start = at;
        char* operands[kMaxOperands];
        for (int k = 0; k < loop.operands; ++k) {
            operands[k] = linear[k] ? element(loop, start, k) : blocks.bytes[k];
        }
        for (std::int64_t done = 0; done < n;) {
            const std::int64_t rest = loop.sizes[last] - at.index[last];
            const std::int64_t run = rest < n - done ? rest : n - done;
            for (int k = 1; k < loop.operands; ++k) {
                if (linear[k]) continue;
                gather_strided(element(loop, at, k), loop.strides[k][last], loop.element_size[k],
                               run, blocks.bytes[k] + done * loop.element_size[k]);
            }
            done += run;
            advance(loop, at, run);
        }
        block(context, operands, n);
        if (!linear[0]) {
            Odometer out = start;
            for (std::int64_t done = 0; done < n;) {
                const std::int64_t rest = loop.sizes[last] - out.index[last];
                const std::int64_t run = rest < n - done ? rest : n - done;
                scatter_strided(blocks.bytes[0] + done * loop.element_size[0], loop.element_size[0],
                                run, element(loop, out, 0), loop.strides[0][last]);
                done += run;
                advance(loop, out, run);
            }
        }
        begin += n;
    }
}

bool can_merge(const StridedLoop& loop, int outer, int inner) {
    for (int k = 0; k < loop.operands; ++k) {
        if (loop.strides[k][outer] != loop.sizes[inner] * loop.strides[k][inner]) return false;
    }
    return true;
}

void move_dimension(StridedLoop& loop, int from, int to) {
    loop.sizes[to] = loop.sizes[from];
    for (int k = 0; k < loop.operands; ++k) loop.strides[k][to] = loop.strides[k][from];
}

void swap_dimensions(StridedLoop& loop, int a, int b) {
    const std::int64_t size = loop.sizes[a];
    loop.sizes[a] = loop.sizes[b];
    loop.sizes[b] = size;
    for (int k = 0; k < loop.operands; ++k) {
        const std::int64_t stride = loop.strides[k][a];
        loop.strides[k][a] = loop.strides[k][b];
        loop.strides[k][b] = stride;
    }
}

// Insertion sort by the output's stride, largest first; equal strides keep their order.
void order_dimensions(StridedLoop& loop) {
    for (int d = 1; d < loop.dimensions; ++d) {
        for (int e = d; e > 0 && loop.strides[0][e - 1] < loop.strides[0][e]; --e) {
            swap_dimensions(loop, e - 1, e);
        }
    }
}

void merge_dimensions(StridedLoop& loop) {
    if (loop.dimensions == 0) return;
    int kept = 0;
    for (int d = 1; d < loop.dimensions; ++d) {
        if (can_merge(loop, kept, d)) {
            const std::int64_t size = loop.sizes[kept];
            move_dimension(loop, d, kept);
            loop.sizes[kept] *= size;
        } else {
            move_dimension(loop, d, ++kept);
        }
    }
    loop.dimensions = kept + 1;
}

}  // namespace

void gather_strided(const char* from, std::int64_t stride, std::int64_t element_size,
                    std::int64_t n, char* to) {
    if (stride == 1) {
        std::memcpy(to, from, static_cast<std::size_t>(n * element_size));
        return;
    }
    switch (element_size) {
        case 1: return gather_sized<1>(from, stride, n, to);
        case 2: return gather_sized<2>(from, stride, n, to);
        case 4: return gather_sized<4>(from, stride, n, to);
        default: return gather_sized<8>(from, stride, n, to);
    }
}

void scatter_strided(const char* from, std::int64_t element_size, std::int64_t n, char* to,
                     std::int64_t stride) {
    if (stride == 1) {
        std::memcpy(to, from, static_cast<std::size_t>(n * element_size));
        return;
    }
    switch (element_size) {
        case 1: return scatter_sized<1>(from, n, to, stride);
        case 2: return scatter_sized<2>(from, n, to, stride);
        case 4: return scatter_sized<4>(from, n, to, stride);
        default: return scatter_sized<8>(from, n, to, stride);
    }
}

StridedLoop make_strided_loop(const TensorView* const* views, int count) {
    StridedLoop loop;
    loop.operands = count;
    loop.count = 1;
    for (int k = 0; k < count; ++k) {
        loop.data[k] = static_cast<char*>(views[k]->data);
        loop.element_size[k] = size_of(views[k]->dtype);
    }
    for (int d = 0; d < views[0]->dimensions; ++d) {
        const std::int64_t size = views[0]->sizes[d];
        loop.count *= size;
        if (size == 1) continue;
        loop.sizes[loop.dimensions] = size;
        for (int k = 0; k < count; ++k) loop.strides[k][loop.dimensions] = views[k]->strides[d];
        ++loop.dimensions;
    }
    if (loop.count == 0) return loop;
    order_dimensions(loop);
    merge_dimensions(loop);
    if (loop.dimensions == 0) {  // a single element is a run of one
        loop.dimensions = 1;
        loop.sizes[0] = 1;
        for (int k = 0; k < count; ++k) loop.strides[k][0] = 1;
    }
    return loop;
}

void run_strided_loop(const StridedLoop& loop, BlockFunction block, const void* context) {
    if (loop.count == 0) return;
    const int last = loop.dimensions - 1;
    bool direct = true;
    for (int k = 0; k < loop.operands; ++k) direct = direct && loop.strides[k][last] == 1;
    const bool long_runs = loop.sizes[last] >= kShortRun || loop.dimensions == 1;
    parallel_for(loop.count, kElementGrain, [&](std::int64_t begin, std::int64_t end) {
        if (direct && long_runs) {
            run_direct(loop, begin, end, block, context);
        } else if (long_runs) {
            run_buffered(loop, begin, end, block, context);
        } else {
            run_joined(loop, begin, end, block, context);
        }
    });
}

}  // namespace tempra::cpu::TEMPRA_ISA

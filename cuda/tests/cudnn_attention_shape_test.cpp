// Which attention cuDNN is asked for, what plans depend on, and where packed sequences begin.
#include "cudnn_attention_shape.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "cudnn_tables.h"

namespace tempra::cuda {
namespace {

TensorView heads_of(std::int64_t rows, std::int64_t heads, std::int64_t head_dim,
                    std::int64_t row_stride) {
    TensorView view;
    view.data = reinterpret_cast<void*>(std::uintptr_t{4096});
    view.dtype = DType::bf16;
    view.dimensions = 3;
    view.sizes[0] = rows;
    view.sizes[1] = heads;
    view.sizes[2] = head_dim;
    view.strides[0] = row_stride;
    view.strides[1] = head_dim;
    view.strides[2] = 1;
    return view;
}

// Two rows of 256 tokens, q, k and v slices of one buffer.
AttentionBackwardArguments taken() {
    AttentionBackwardArguments b;
    AttentionArguments& a = b.forward;
    a.q = a.k = a.v = b.grad_q = b.grad_k = b.grad_v = heads_of(512, 4, 64, 768);
    a.out = b.grad_out = heads_of(512, 4, 64, 256);
    a.log_sum_exp = heads_of(4, 512, 1, 512);
    a.offsets_q.data = reinterpret_cast<void*>(std::uintptr_t{64});
    a.offsets_q.dimensions = 1;
    a.offsets_q.sizes[0] = 3;
    a.offsets_q.strides[0] = 1;
    a.offsets_k = a.offsets_q;
    a.scale = 0.125;
    a.max_query_length = a.max_key_length = 256;
    a.uniform = 1;
    return b;
}

TEST(CudnnAttentionShape, TakesRowsAndPackedSequences) {
    AttentionBackwardArguments b = taken();
    for (const int architecture : {80, 86, 90, 100, 120}) {
        EXPECT_EQ(cudnn_refusal(b.forward, nullptr, architecture), nullptr);
        EXPECT_EQ(cudnn_refusal(b.forward, &b, architecture), nullptr);
    }
    b.forward.uniform = 0;
    EXPECT_EQ(cudnn_refusal(b.forward, &b, 90), nullptr);
    EXPECT_EQ(cudnn_refusal(b.forward, &b, 100), nullptr);
    EXPECT_NE(cudnn_refusal(b.forward, &b, 80), nullptr) << "in order, there are none";
    EXPECT_NE(cudnn_refusal(b.forward, &b, 120), nullptr);
}

TEST(CudnnAttentionShape, RefusesWhatOnlyOurKernelsDo) {
    const auto refused = [](const auto& change) {
        AttentionBackwardArguments b = taken();
        change(b);
        return cudnn_refusal(b.forward, nullptr, 90) != nullptr &&
               cudnn_refusal(b.forward, &b, 90) != nullptr;
    };
    using B = AttentionBackwardArguments;
    EXPECT_FALSE(refused([](B&) {}));
    EXPECT_TRUE(refused([](B& b) { b.forward.q.dtype = DType::f32; }));
    EXPECT_TRUE(refused([](B& b) { b.forward.dropout_probability = 0.1; }));
    EXPECT_TRUE(refused([](B& b) { b.forward.scale = -0.1; }));
    EXPECT_TRUE(refused([](B& b) { b.forward.max_query_length = 8; }));
    EXPECT_TRUE(refused([](B& b) { b.forward.max_key_length = 255; })) << "a query without keys";
    EXPECT_TRUE(refused([](B& b) { b.forward.q.sizes[2] = 60; }));
    EXPECT_TRUE(refused([](B& b) { b.forward.q.sizes[0] = 513; })) << "a row of no sequence";
    EXPECT_TRUE(refused([](B& b) { b.forward.k.strides[0] = 772; })) << "off 16 bytes";
    EXPECT_TRUE(
        refused([](B& b) { b.forward.v.data = reinterpret_cast<void*>(std::uintptr_t{4104}); }));
    EXPECT_TRUE(refused([](B& b) { b.forward.k.strides[1] = 0; }));
    EXPECT_TRUE(refused([](B& b) { b.forward.log_sum_exp.strides[0] = 516; })) << "with gaps";
    EXPECT_TRUE(refused([](B& b) { b.forward.log_sum_exp.strides[1] = 4; }));
    EXPECT_TRUE(refused(
        [](B& b) { b.forward.log_sum_exp.data = reinterpret_cast<void*>(std::uintptr_t{4100}); }));
    EXPECT_TRUE(refused([](B& b) {
        b.forward.causal = 0;
        b.forward.window = 5;
    }));
    // Packed: other sequences of keys; and begins beyond 32 bits.
    EXPECT_TRUE(refused([](B& b) {
        b.forward.uniform = 0;
        b.forward.offsets_k.data = reinterpret_cast<void*>(std::uintptr_t{128});
    }));
    EXPECT_TRUE(refused([](B& b) {
        b.forward.uniform = 0;
        b.forward.q.sizes[0] = (std::int64_t{1} << 31) / 768 + 1;
    }));
}

TEST(CudnnAttentionShape, AsksForNoPlanThatIsUsedOnce) {
    AttentionArguments a = taken().forward;
    a.log_sum_exp = {};
    EXPECT_EQ(cudnn_refusal(a, nullptr, 90), nullptr) << "evaluation";
    a.max_query_length = a.max_key_length = 250;
    a.q.sizes[0] = a.k.sizes[0] = 500;
    EXPECT_NE(cudnn_refusal(a, nullptr, 90), nullptr) << "a prompt";
}

TEST(CudnnAttentionShape, PackedBatchesShareFewPlans) {
    AttentionBackwardArguments b = taken();
    b.forward.uniform = 0;
    const auto shape = [&](std::int64_t sequences, std::int64_t longest) {
        b.forward.offsets_q.sizes[0] = sequences + 1;
        b.forward.max_query_length = b.forward.max_key_length = longest;
        return cudnn_attention_shape(b.forward, &b, 90, true);
    };
    EXPECT_EQ(shape(9, 130), shape(16, 256));
    EXPECT_EQ(shape(9, 130).sequences, 16);
    EXPECT_EQ(shape(9, 130).keys, 256);
    EXPECT_EQ(shape(1, 9).queries, kCudnnLeastRaggedLength);
    EXPECT_NE(shape(9, 130), shape(17, 130));
    EXPECT_NE(shape(9, 130), shape(9, 257));
    // Rows: as they are.
    b.forward.uniform = 1;
    EXPECT_EQ(shape(9, 130).sequences, 9);
    EXPECT_EQ(shape(9, 130).queries, 130);
}

TEST(CudnnAttentionShape, PlansDifferInAllThatTheyDependOn) {
    const AttentionBackwardArguments b = taken();
    const CudnnAttentionShape one = cudnn_attention_shape(b.forward, &b, 90, true);
    EXPECT_EQ(one, cudnn_attention_shape(b.forward, &b, 90, true));
    EXPECT_NE(one, cudnn_attention_shape(b.forward, nullptr, 90, true));
    EXPECT_NE(one, cudnn_attention_shape(b.forward, &b, 100, true));
    EXPECT_NE(one, cudnn_attention_shape(b.forward, &b, 90, false));
    const auto changed = [&](const auto& change) {
        AttentionBackwardArguments other = b;
        change(other);
        return cudnn_attention_shape(other.forward, &other, 90, true) != one;
    };
    using B = AttentionBackwardArguments;
    EXPECT_TRUE(changed([](B& o) { o.forward.q.dtype = DType::f16; }));
    EXPECT_TRUE(changed([](B& o) { o.forward.scale = 0.2; }));
    EXPECT_TRUE(changed([](B& o) { o.forward.causal = 0; }));
    EXPECT_TRUE(changed([](B& o) { o.forward.window = 100; }));
    EXPECT_FALSE(changed([](B& o) { o.forward.window = 256; })) << "as wide as all keys";
    EXPECT_TRUE(changed([](B& o) { o.forward.k.sizes[1] = 2; }));
    EXPECT_TRUE(changed([](B& o) { o.grad_k.strides[0] = 1024; }));
    EXPECT_TRUE(changed([](B& o) { o.grad_v.strides[1] = 128; }));
    EXPECT_FALSE(changed([](B& o) { o.forward.q.data = nullptr; })) << "not on pointers";
}

TEST(CudnnTables, SayWhereSequencesBeginAndEmptyOnesFollow) {
    std::mt19937 engine(5);
    for (int round = 0; round < 50; ++round) {
        const int given = 1 + static_cast<int>(engine() % 20), stride = 1 + round % 2;
        const std::int64_t room = round_up_to_power(given, 1), row_stride = 8 * (1 + round);
        std::vector<std::int32_t> offsets(static_cast<std::size_t>((given + 1) * stride), -1);
        std::int32_t at = 3;
        for (int s = 0; s <= given; ++s) {
            offsets[static_cast<std::size_t>(s * stride)] = at;
            at += static_cast<std::int32_t>(engine() % 4 == 0 ? 0 : engine() % 90);
        }
        const std::int32_t end = offsets[static_cast<std::size_t>(given * stride)];
        std::int64_t rows = 0;
        for (std::int64_t entry = 0; entry <= room; ++entry) {
            const std::int32_t begin =
                ragged_begin(offsets.data(), stride, given, entry, row_stride);
            if (entry >= given) {
                EXPECT_EQ(begin, end * row_stride);
            }
            if (entry == room) break;
            const std::int32_t length = ragged_length(offsets.data(), stride, given, entry);
            EXPECT_EQ(begin + length * row_stride,
                      ragged_begin(offsets.data(), stride, given, entry + 1, row_stride));
            rows += length;
        }
        EXPECT_EQ(rows, end - 3);
    }
}

TEST(CudnnStatistics, HaveAPlaceOfTheirOwnForEachHeadAndToken) {
    for (const std::int64_t length : {0, 5, 15}) {
        CudnnStatistics s;
        s.heads = 3;
        s.tokens = 15;
        s.length = length;
        std::vector<int> seen(45);
        for (std::int64_t head = 0; head < 3; ++head) {
            for (std::int64_t token = 0; token < 15; ++token) {
                const std::int64_t place = s.their_place(head, token);
                ASSERT_TRUE(place >= 0 && place < 45);
                ++seen[static_cast<std::size_t>(place)];
                // One sequence lies as ours do.
                if (length == 15) {
                    EXPECT_EQ(place, head * 15 + token);
                }
            }
        }
        EXPECT_EQ(seen, std::vector<int>(45, 1));
    }
    CudnnStatistics s;
    s.heads = 3;
    s.tokens = 10;
    s.length = 5;
    EXPECT_EQ(s.their_place(2, 7), (1 * 3 + 2) * 5 + 2);
    s.length = 0;
    EXPECT_EQ(s.their_place(2, 7), 7 * 3 + 2);
}

// Plans are built for tensors at 16 bytes.
TEST(CudnnTables, TakeOneBlockInWhichEachIsAligned) {
    for (const std::int64_t sequences : {1, 2, 4, 8, 64}) {
        CudnnTables tables;
        tables.sequences = sequences;
        tables.out = reinterpret_cast<std::int32_t*>(std::uintptr_t{4096});
        const std::int32_t* end = tables.out + sequences;  // of the lengths
        for (int number = 0; number < 9; ++number) {
            const std::int32_t* const table = tables.table(number);
            EXPECT_EQ(reinterpret_cast<std::uintptr_t>(table) % 16, 0U)
                << sequences << " sequences, table " << number;
            EXPECT_GE(table, end);
            end = table + sequences + 1;
            EXPECT_LE(end - tables.out, CudnnTables::bytes(sequences, number + 1) / 4);
        }
    }
}

}  // namespace
}  // namespace tempra::cuda

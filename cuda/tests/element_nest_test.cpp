// What kernels are launched with: nests of elements, grids, divisions and bit patterns.
#include "element_nest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "element_bits.h"
#include "launch_shape.h"

namespace tempra::cuda {
namespace {

// An address on a 16-byte boundary, never read.
void* const kAligned = reinterpret_cast<void*>(std::uintptr_t{1} << 20);

TensorView view(std::vector<std::int64_t> sizes, std::vector<std::int64_t> strides,
                DType dtype = DType::f32, void* data = kAligned) {
    TensorView v;
    v.data = data;
    v.dtype = dtype;
    v.dimensions = static_cast<std::int32_t>(sizes.size());
    for (std::size_t d = 0; d < sizes.size(); ++d) {
        v.sizes[d] = sizes[d];
        v.strides[d] = strides[d];
    }
    return v;
}

using Offsets = std::vector<std::int64_t>;

// Offsets of all operands for every element, by counting through the dimensions.
template <int kOperands>
std::vector<Offsets> expected_offsets(const TensorView* const (&views)[kOperands]) {
    std::vector<Offsets> all;
    for (std::int64_t i = 0; i < views[0]->numel(); ++i) {
        Offsets at(kOperands, 0);
        std::int64_t rest = i;
        for (int d = views[0]->dimensions - 1; d >= 0; --d) {
            for (int k = 0; k < kOperands; ++k) {
                at[k] += rest % views[0]->sizes[d] * views[k]->strides[d];
            }
            rest /= views[0]->sizes[d];
        }
        all.push_back(at);
    }
    return all;
}

// The same as a kernel visits them.
template <int kOperands>
std::vector<Offsets> visited_offsets(const ElementNest<kOperands>& nest) {
    std::vector<Offsets> all;
    for (std::int64_t pack = 0; pack < nest.packs; ++pack) {
        std::int64_t offset[kOperands];
        nest.offsets(pack, offset);
        for (int i = 0; i < nest.elements_in(pack); ++i) {
            Offsets at(kOperands);
            for (int k = 0; k < kOperands; ++k) {
                at[k] = offset[k] + (nest.broadcast_inside[k] ? 0 : i);
            }
            all.push_back(at);
        }
    }
    return all;
}

template <int kOperands>
void expect_every_element_once(const TensorView* const (&views)[kOperands]) {
    std::vector<Offsets> want = expected_offsets(views), got = visited_offsets(element_nest(views));
    std::ranges::sort(want);
    std::ranges::sort(got);
    EXPECT_EQ(got, want);
}

TEST(ElementNest, ContiguousViewsAreOneRowOfPacks) {
    const TensorView a = view({3, 5, 7}, {35, 7, 1});
    const TensorView* const views[] = {&a, &a};
    const ElementNest<2> nest = element_nest(views);
    EXPECT_EQ(nest.dimensions, 1);
    EXPECT_EQ(nest.pack, 4);
    EXPECT_EQ(nest.packs, 27);  // 105 elements
    EXPECT_EQ(nest.elements_in(26), 1);
    expect_every_element_once(views);
}

TEST(ElementNest, BroadcastRowsKeepTheirPacks) {
    const TensorView out = view({6, 64}, {64, 1}), bias = view({6, 64}, {0, 1});
    const TensorView column = view({6, 64}, {1, 0});
    const TensorView* const views[] = {&out, &bias, &column};
    const ElementNest<3> nest = element_nest(views);
    EXPECT_EQ(nest.pack, 4);
    EXPECT_EQ(nest.packs, 6 * 16);
    EXPECT_TRUE(nest.broadcast_inside[2]);
    expect_every_element_once(views);
}

TEST(ElementNest, RowsThatAreNotWholePacksGoElementByElement) {
    const TensorView out = view({6, 7}, {7, 1}), bias = view({6, 7}, {0, 1});
    const TensorView* const views[] = {&out, &bias};
    EXPECT_EQ(element_nest(views).pack, 1);
    expect_every_element_once(views);
    const TensorView padded = view({6, 7}, {8, 1});  // every row starts on a pack, none ends there
    const TensorView* const rows[] = {&padded};
    EXPECT_EQ(element_nest(rows).pack, 1);
    expect_every_element_once(rows);
}

TEST(ElementNest, AddressesOffAPackGoElementByElement) {
    const TensorView out = view({64}, {1});
    const TensorView off = view({64}, {1}, DType::f32, static_cast<char*>(kAligned) + 4);
    const TensorView* const views[] = {&out, &off};
    EXPECT_EQ(element_nest(views).pack, 1);
    const TensorView padded = view({4, 64}, {66, 1}), whole = view({4, 64}, {64, 1});
    const TensorView* const rows[] = {&whole, &padded};  // row 1 starts at 8 bytes past a pack
    EXPECT_EQ(element_nest(rows).pack, 1);
    expect_every_element_once(rows);
}

TEST(ElementNest, TheWidestDtypeSetsThePack) {
    const TensorView truth = view({64}, {1}, DType::boolean), wide = view({64}, {1}, DType::i64);
    const TensorView half = view({64}, {1}, DType::bf16), single = view({64}, {1});
    const TensorView* const a[] = {&truth, &wide};
    const TensorView* const b[] = {&truth, &half};
    const TensorView* const c[] = {&half, &single};
    EXPECT_EQ(element_nest(a).pack, 2);
    EXPECT_EQ(element_nest(b).pack, 8);
    EXPECT_EQ(element_nest(c).pack, 4);
    EXPECT_EQ(element_nest(c, 1).pack, 1);
}

TEST(ElementNest, TransposedAlikeIsContiguous) {
    const TensorView a = view({8, 16}, {1, 8});
    const TensorView* const views[] = {&a, &a};
    EXPECT_EQ(element_nest(views).dimensions, 1);
    EXPECT_EQ(element_nest(views).pack, 4);
    expect_every_element_once(views);
}

TEST(ElementNest, EmptyAndSingleElements) {
    const TensorView none = view({0, 3}, {3, 1}), scalar = view({}, {}),
                     ones = view({1, 1}, {9, 9});
    const TensorView* const a[] = {&none};
    const TensorView* const b[] = {&scalar, &scalar};
    const TensorView* const c[] = {&ones};
    EXPECT_EQ(element_nest(a).packs, 0);
    EXPECT_EQ(element_nest(b).packs, 1);
    EXPECT_EQ(element_nest(b).elements_in(0), 1);
    EXPECT_EQ(element_nest(c).packs, 1);
    expect_every_element_once(b);
}

TEST(ElementNest, RandomLayouts) {
    std::mt19937 engine(7);
    const auto below = [&](int n) { return static_cast<int>(engine() % static_cast<unsigned>(n)); };
    for (int round = 0; round < 500; ++round) {
        const int dimensions = 1 + below(5);
        std::vector<std::int64_t> sizes, order;
        for (int d = 0; d < dimensions; ++d) {
            sizes.push_back(1 + below(below(2) == 0 ? 3 : 9));
            order.push_back(d);
        }
        TensorView views[3];
        for (TensorView& v : views) {
            // Back to back in some order of the dimensions, at times padded or broadcast.
            std::vector<std::int64_t> strides(sizes.size());
            if (below(3) == 0) std::ranges::shuffle(order, engine);
            std::int64_t stride = 1;
            for (auto d = order.rbegin(); d != order.rend(); ++d) {
                const bool broadcast = &v != views && below(4) == 0;
                strides[*d] = broadcast ? 0 : stride;
                stride *= sizes[*d] + (below(6) == 0 ? 4 : 0);
            }
            v = view(sizes, strides, below(2) == 0 ? DType::f32 : DType::bf16);
        }
        const TensorView* const operands[] = {&views[0], &views[1], &views[2]};
        expect_every_element_once(operands);
        if (HasFailure()) return;
    }
}

// Sizes that only 64-bit arithmetic can walk: the last element's offset.
TEST(ElementNest, MoreThanTwoToThe31Packs) {
    const std::int64_t rows = std::int64_t{1} << 30;
    const TensorView a = view({rows, 3, 5}, {30, 10, 2});
    const TensorView* const views[] = {&a};
    const ElementNest<1> nest = element_nest(views);
    EXPECT_EQ(nest.wide, 1);
    std::int64_t offset[1];
    nest.offsets(rows * 15 - 1, offset);
    EXPECT_EQ(offset[0], (rows - 1) * 30 + 2 * 10 + 4 * 2);
}

TEST(FastDivide, EqualsDivision) {
    std::mt19937 engine(3);
    std::vector<std::uint32_t> numbers = {0, 1, 2, 3, 0x7FFFFFFF, 0x7FFFFFFE, 0x40000000};
    for (int i = 0; i < 300; ++i) numbers.push_back((engine() >> (engine() % 31U)) & 0x7FFFFFFFU);
    for (const std::uint32_t divisor : numbers) {
        if (divisor == 0) continue;
        const FastDivide divide(divisor);
        for (const std::uint32_t dividend : numbers) {
            ASSERT_EQ(divide.quotient(dividend), dividend / divisor)
                << dividend << " / " << divisor;
        }
        const std::uint32_t most = 0x7FFFFFFFU / divisor * divisor;
        ASSERT_EQ(divide.quotient(most), most / divisor);
        ASSERT_EQ(divide.quotient(most - 1), (most - 1) / divisor);
    }
}

TEST(LaunchShape, GridsCoverTheWork) {
    EXPECT_EQ(grid_for(0, 256), 0);
    EXPECT_EQ(grid_for(1, 256), 1);
    EXPECT_EQ(grid_for(256, 256), 1);
    EXPECT_EQ(grid_for(257, 256), 2);
    EXPECT_EQ(grid_for(kLargestGrid * 256, 256), kLargestGrid);
    EXPECT_EQ(grid_for(kLargestGrid * 256 + 1, 256), -1);
}

TEST(ElementBits, OfEveryType) {
    EXPECT_EQ(element_bits(DType::f32, 1.0), 0x3F800000U);
    EXPECT_EQ(element_bits(DType::bf16, 1.0), 0x3F80U);
    EXPECT_EQ(element_bits(DType::f64, 1.0), 0x3FF0000000000000U);
    EXPECT_EQ(element_bits(DType::boolean, 0.25), 1U);
    EXPECT_EQ(element_bits(DType::boolean, 0.0), 0U);
    EXPECT_EQ(element_bits(DType::i64, -2.0), 0xFFFFFFFFFFFFFFFEU);
    EXPECT_EQ(element_bits(DType::i32, -2.7), 0xFFFFFFFEU);
    EXPECT_EQ(element_bits(DType::u32, 4294967295.0), 0xFFFFFFFFU);
    EXPECT_EQ(element_bits(DType::u8, 200.0), 200U);
}

TEST(ElementBits, Float16RoundsToNearestEven) {
    EXPECT_EQ(float16_bits(1.0F), 0x3C00U);
    EXPECT_EQ(float16_bits(-2.0F), 0xC000U);
    EXPECT_EQ(float16_bits(65504.0F), 0x7BFFU);
    EXPECT_EQ(float16_bits(65520.0F), 0x7C00U);  // rounds up to infinity
    EXPECT_EQ(float16_bits(1.0F + 0x1p-11F), 0x3C00U);
    EXPECT_EQ(float16_bits(1.0F + 0x1.8p-10F), 0x3C02U);
    EXPECT_EQ(float16_bits(0x1p-24F), 0x0001U);
    EXPECT_EQ(float16_bits(0x1p-25F), 0x0000U);
    EXPECT_EQ(float16_bits(0x1.8p-25F), 0x0001U);
    EXPECT_EQ(float16_bits(0x1p-14F), 0x0400U);
    EXPECT_EQ(float16_bits(0x1.FFFp-15F), 0x0400U);
    EXPECT_EQ(float16_bits(__builtin_nanf("")) & 0x7E00U, 0x7E00U);
}

}  // namespace
}  // namespace tempra::cuda

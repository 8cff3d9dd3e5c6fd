#include "tempra/shape.h"

#include <gtest/gtest.h>

#include <limits>

namespace tempra {
namespace {

TEST(Shape, BroadcastsLikeNumPy) {
    EXPECT_EQ(broadcast_shapes("add", {2, 1, 3}, {4, 3}), Shape({2, 4, 3}));
    EXPECT_EQ(broadcast_shapes("add", {}, {4, 3}), Shape({4, 3}));
    EXPECT_EQ(broadcast_shapes("add", {0, 1}, {1, 3}), Shape({0, 3}));
}

TEST(Shape, BroadcastErrorNamesBothShapes) {
    try {
        (void)broadcast_shapes("add", {2, 3}, {4, 3});
        FAIL() << "no error";
    } catch (const ShapeError& error) {
        EXPECT_STREQ(error.what(),
                     "add: shapes [2, 3] and [4, 3] do not broadcast: 2 against 4 in dimension 2 "
                     "from the end");
    }
}

TEST(Shape, NumelRefusesOverflow) {
    const std::int64_t big = std::numeric_limits<std::int64_t>::max() / 2;
    EXPECT_THROW((void)Shape({big, 3}).numel(), ShapeError);
    EXPECT_EQ(Shape({2, 0, 5}).numel(), 0);
    EXPECT_EQ(Shape().numel(), 1);
}

TEST(Shape, TooManyDimensionsAreRefused) {
    EXPECT_THROW(Shape({1, 1, 1, 1, 1, 1, 1, 1, 1}), ShapeError);
}

}  // namespace
}  // namespace tempra

/* read_ahead_test.cpp - what lies in a stretch, and what does not. */
#include "backfill/core/read_ahead.hpp"

#include <doctest/doctest.h>

using namespace backfill::core;

namespace
{

constexpr RangeId kRange{1, false, 42};

} // namespace

TEST_CASE("a stretch reaches from its first to its last job")
{
    ReadAhead ahead{};
    CHECK(ahead.end_of(kRange, {10, 1}) == nullptr);
    for (const ReadyKey key : {ReadyKey{10, 5}, {10, 7}, {20, 1}, {10, 3}})
        ahead.add(kRange, key);
    for (const ReadyKey key : {ReadyKey{10, 3}, {10, 6}, {15, 0}, {20, 1}}) {
        REQUIRE(ahead.end_of(kRange, key) != nullptr);
        CHECK(*ahead.end_of(kRange, key) == ReadyKey{20, 1});
    }
    CHECK(ahead.end_of(kRange, {10, 2}) == nullptr);
    CHECK(ahead.end_of(kRange, {20, 2}) == nullptr);
}

TEST_CASE("each range has a stretch of its own")
{
    ReadAhead ahead{};
    ahead.add(kRange, {10, 1});
    CHECK(ahead.end_of({1, false, 43}, {10, 1}) == nullptr);
    CHECK(ahead.end_of({2, false, 42}, {10, 1}) == nullptr);
    ahead.add({1, false, 43}, {30, 1});
    CHECK(ahead.end_of(kRange, {30, 1}) == nullptr);
    CHECK(ahead.end_of({1, false, 43}, {30, 1}) != nullptr);
}

TEST_CASE("short stretches can be left out of account")
{
    ReadAhead ahead{};
    for (int id = 0; id < 15; id++)
        ahead.add(kRange, {10, id});
    CHECK(ahead.end_of(kRange, {10, 3}, 16) == nullptr);
    ahead.add(kRange, {10, 15});
    CHECK(ahead.end_of(kRange, {10, 3}, 16) != nullptr);
}

TEST_CASE("of more ranges than there is room for, the first ones count")
{
    ReadAhead ahead{};
    for (std::uint64_t range = 0; range < 100; range++)
        ahead.add({1, false, range}, {10, 1});
    CHECK(ahead.end_of({1, false, 0}, {10, 1}) != nullptr);
    CHECK(ahead.end_of({1, false, 99}, {10, 1}) == nullptr);
    ahead.add({1, false, 0}, {20, 1});
    REQUIRE(ahead.end_of({1, false, 0}, {10, 1}) != nullptr);
    CHECK(*ahead.end_of({1, false, 0}, {10, 1}) == ReadyKey{20, 1});
}

/* read_ahead_test.cpp - what lies in a stretch, and what does not. */
#include "backfill/core/read_ahead.hpp"

#include <doctest/doctest.h>
#include <vector>

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

namespace
{

ReadAhead of_group(std::uint64_t group, bool wants_division)
{
    ReadAhead ahead{};
    ahead.group = group;
    ahead.wants_division = wants_division;
    return ahead;
}

} // namespace

TEST_CASE("executors of a group divide if one of them wants to, in the order that all see")
{
    const std::vector<ReadAhead> alone;
    CHECK(share_among(alone, 0, 7, true).is_all());

    const std::vector<ReadAhead> content = {of_group(7, false), of_group(7, false)};
    CHECK(share_among(content, 1, 7, false).is_all());
    CHECK(share_among(content, 1, 7, true).executors == 3);
    CHECK(share_among(content, 1, 7, true).place == 1);

    const std::vector<ReadAhead> wanting = {of_group(7, false), of_group(8, true),
                                            of_group(7, true)};
    CHECK(share_among(wanting, 3, 7, false).executors == 3);
    CHECK(share_among(wanting, 3, 7, false).place == 2);
    CHECK(share_among(wanting, 2, 7, false).place == 1);
    CHECK(share_among(wanting, 0, 7, false).place == 0);
}

TEST_CASE("what another group wants is its own affair")
{
    const std::vector<ReadAhead> others = {of_group(8, true)};
    CHECK(share_among(others, 1, 7, false).is_all());
    CHECK(share_among(others, 1, 7, true).is_all());
}

TEST_CASE("each job falls to one executor, all jobs of a queue to the same")
{
    for (std::uint64_t queue : {0, 1, 2, 3, 1000}) {
        for (std::int64_t id : {1, 2, 3, 4000}) {
            int takers = 0;
            for (std::uint32_t place = 0; place < 3; place++)
                takers += Share{3, place}.has(queue, id) ? 1 : 0;
            CHECK(takers == 1);
            CHECK(Share{}.has(queue, id));
        }
        if (queue != 0)
            CHECK(Share{3, 1}.has(queue, 1) == Share{3, 1}.has(queue, 2));
    }
}

/* look_pace_test.cpp - how many candidates are read, and when they may be given up. */
#include "backfill/core/look_pace.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <utility>

using namespace backfill::core;

TEST_CASE("each look reads twice as many as the one before, up to a bound")
{
    LookPace pace(false, 0);
    for (const int expected : {16, 32, 64, 128, 256, 512, 1024, 1024}) {
        CHECK(pace.candidates() == expected);
        pace.note_look(0, 10);
    }
}

TEST_CASE("the first look reads half of what the last batch has run, as a power of two")
{
    for (const auto &[jobs, expected] : {std::pair(1, 16),
                                         {63, 16},
                                         {64, 32},
                                         {1000, 256},
                                         {1023, 256},
                                         {1024, 512},
                                         {5000, 1024}})
        CHECK(LookPace(false, jobs).candidates() == expected);
}

TEST_CASE("no look reads more than the batch has room for, but a few")
{
    LookPace pace(false, 1000);
    CHECK(pace.candidates(1000) == 256);
    CHECK(pace.candidates(100) == 100);
    CHECK(pace.candidates(0) == 16);
    CHECK(LookPace(true, 1000).candidates(100) == 1024);
}

TEST_CASE("there is room for what would run in the time that is left, and a quarter more")
{
    constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();
    CHECK(LookPace::room(0, 100, 5000) == 1024);
    CHECK(LookPace::room(100, 0, 5000) == 1024);
    CHECK(LookPace::room(100, 2500, 5000) == 125);
    CHECK(LookPace::room(100, 5000, 5000) == 0);
    CHECK(LookPace::room(100, 9000, 5000) == 0);
    CHECK(LookPace::room(1, 4999, 5000) == 0);
    for (const int jobs : {1, 2, 3, 1000, std::numeric_limits<int>::max()})
        CHECK(LookPace::room(jobs, 1000, kNoLimit) == 1024);
}

TEST_CASE("where looking takes long, one look reads as many as possible")
{
    LookPace pace(true, 0);
    CHECK(pace.candidates() == 1024);
    pace.note_look(0, 10);
    CHECK(!pace.looking_takes_long());
    CHECK(pace.candidates() == 32);
    pace.note_look(0, 1001);
    CHECK(pace.looking_takes_long());
    CHECK(pace.candidates() == 1024);
}

TEST_CASE("candidates are kept for a while, the longer the longer it took to read them")
{
    LookPace pace(false, 0);
    pace.note_look(5000, 5010);
    CHECK(!pace.may_give_up(6009));
    CHECK(pace.may_give_up(6010));
    pace.note_look(10000, 11000);
    CHECK(!pace.may_give_up(14999));
    CHECK(pace.may_give_up(15000));
}

TEST_CASE("after candidates were given up, one look reads few, and then as many as before")
{
    LookPace pace(false, 0);
    for (int look = 0; look < 4; look++)
        pace.note_look(0, 10);
    CHECK(pace.candidates() == 256);
    pace.note_given_up();
    CHECK(pace.candidates() == 16);
    pace.note_look(0, 10);
    CHECK(pace.candidates() == 256);
}

TEST_CASE("a look that reads few says nothing about how long looking takes")
{
    LookPace pace(true, 0);
    pace.note_look(0, 2000);
    pace.note_given_up();
    pace.note_look(3000, 3010);
    CHECK(pace.looking_takes_long());
    CHECK(pace.candidates() == 1024);
}

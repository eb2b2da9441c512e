/* low_water_test.cpp - a mark is never above a job that is ready. */
#include "backfill/core/low_water.hpp"

#include <boost/random/mersenne_twister.hpp>
#include <boost/random/uniform_int_distribution.hpp>
#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

using namespace backfill::core;

namespace
{

constexpr RangeId kRange{1, 42};

/* Too large for the stack; shared memory begins as zeroes, too. */
std::unique_ptr<LowWaterMarks> make_marks()
{
    return std::make_unique<LowWaterMarks>();
}

} // namespace

TEST_CASE("a range begins without a mark, and readers raise it")
{
    auto marks = make_marks();
    CHECK(marks->mark(kRange) == ReadyKey{});
    marks->raise_mark(kRange, {}, {10, 1}, marks->announcements());
    CHECK(marks->mark(kRange) == ReadyKey{10, 1});
    marks->raise_mark(kRange, {10, 1}, {10, 5}, marks->announcements());
    CHECK(marks->mark(kRange) == ReadyKey{10, 5});
    CHECK(marks->mark({2, 42}) == ReadyKey{}); /* another database */
    marks->forget(2);
    CHECK(marks->mark(kRange) == ReadyKey{10, 5});
    marks->forget(1);
    CHECK(marks->mark(kRange) == ReadyKey{});
}

TEST_CASE("a job announced below the mark lowers it, one above does not")
{
    auto marks = make_marks();
    marks->raise_mark(kRange, {}, {10, 1}, marks->announcements());
    marks->announce(kRange, {11, 7});
    CHECK(marks->mark(kRange) == ReadyKey{10, 1});
    marks->announce(kRange, {9, 7});
    CHECK(marks->mark(kRange) == ReadyKey{9, 7});
}

TEST_CASE("a job announced after the snapshot was taken holds the mark down")
{
    auto marks = make_marks();
    marks->raise_mark(kRange, {}, {10, 1}, marks->announcements());
    const auto before = marks->announcements();
    marks->announce(kRange, {15, 3});
    marks->raise_mark(kRange, {10, 1}, {20, 1}, before);
    CHECK(marks->mark(kRange) == ReadyKey{15, 3});
    /* A reader that took its snapshot later has seen it. */
    marks->raise_mark(kRange, {15, 3}, {20, 1}, marks->announcements());
    CHECK(marks->mark(kRange) == ReadyKey{20, 1});
}

TEST_CASE("a range without a mark gets none while an announcement may have been missed")
{
    auto marks = make_marks();
    const auto before = marks->announcements();
    marks->announce(kRange, {15, 3});
    marks->raise_mark(kRange, {}, {20, 1}, before);
    CHECK(marks->mark(kRange) == ReadyKey{});
    const auto before_forget = marks->announcements();
    marks->forget(1);
    marks->raise_mark(kRange, {}, {20, 1}, before_forget);
    CHECK(marks->mark(kRange) == ReadyKey{});
}

TEST_CASE("a reader that began above a lowered mark does not raise it")
{
    auto marks = make_marks();
    marks->raise_mark(kRange, {}, {10, 1}, marks->announcements());
    marks->announce(kRange, {5, 1}); /* after the reader asked for the mark, before its snapshot */
    marks->raise_mark(kRange, {10, 1}, {20, 1}, marks->announcements());
    CHECK(marks->mark(kRange) == ReadyKey{5, 1});
}

/* A model of committing producers, claimers that may abort, and readers that are slow:
 * after every step each ready job of every range is at or above its range's mark, unless
 * its announcement is still to come. Few ranges with colliding hashes, so that places are
 * taken away; many announcements, so that they are dropped. */
TEST_CASE("no interleaving hides a ready job")
{
    boost::random::mt19937 random(2026);
    const auto pick = [&](int low, int high) {
        return boost::random::uniform_int_distribution<int>(low, high)(random);
    };
    struct Reader {
        RangeId range;
        std::uint64_t announcements;
        std::set<ReadyKey> visible; /* what its snapshot sees */
        std::optional<ReadyKey> from;
    };
    long raised = 0;

    for (int round = 0; round < 200; round++) {
        auto marks = make_marks();
        std::map<std::uint64_t, std::set<ReadyKey>> ready;     /* visible to new snapshots */
        std::vector<std::pair<RangeId, ReadyKey>> unannounced; /* committed just now */
        std::vector<Reader> readers;
        for (int step = 0; step < 400; step++) {
            /* Seven ranges that share one set of four places. */
            const RangeId range{1, static_cast<std::uint64_t>(pick(0, 6)) * 512};
            std::set<ReadyKey> &jobs = ready[range.hash];
            switch (pick(0, 6)) {
            case 0: /* a job becomes visible: enqueued, or its claim rolled back */
            case 1: {
                const ReadyKey key{pick(0, 30), step};
                jobs.insert(key);
                unannounced.emplace_back(range, key);
                break;
            }
            case 2: /* and is announced */
                if (!unannounced.empty()) {
                    marks->announce(unannounced.front().first, unannounced.front().second);
                    unannounced.erase(unannounced.begin());
                }
                break;
            case 3: /* the first job is claimed */
                if (!jobs.empty())
                    jobs.erase(jobs.begin());
                break;
            case 4: /* a reader notes the number and takes its snapshot */
                readers.push_back({range, marks->announcements(), {}, std::nullopt});
                readers.back().visible = jobs;
                break;
            case 5: /* asks for the mark */
                for (Reader &reader : readers)
                    if (!reader.from)
                        reader.from = marks->mark(reader.range);
                break;
            case 6: /* and raises it to the first job it sees that is still there */
                if (!readers.empty() && readers.front().from) {
                    const Reader reader = readers.front();
                    readers.erase(readers.begin());
                    ReadyKey to{1000, 0};
                    for (const ReadyKey &key : reader.visible)
                        if (key >= *reader.from && ready[reader.range.hash].count(key) > 0)
                            to = std::min(to, key);
                    const ReadyKey before = marks->mark(reader.range);
                    marks->raise_mark(reader.range, *reader.from, to, reader.announcements);
                    raised += marks->mark(reader.range) > before ? 1 : 0;
                }
                break;
            }
            for (const auto &[hash, keys] : ready) {
                const ReadyKey mark = marks->mark({1, hash});
                for (const ReadyKey &key : keys) {
                    bool coming = false;
                    for (const auto &[of, job] : unannounced)
                        coming = coming || (of.hash == hash && job == key);
                    REQUIRE((coming || key >= mark));
                }
            }
        }
    }
    CHECK(raised > 1000);
}

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

constexpr RangeId kRange{1, false, 42};

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
    CHECK(marks->mark({2, false, 42}) == ReadyKey{}); /* another database */
    marks->forget(2);
    CHECK(marks->mark(kRange) == ReadyKey{10, 5});
    marks->forget(1);
    CHECK(marks->mark(kRange) == ReadyKey{});
}

TEST_CASE("a job announced below the mark lowers it, one above does not")
{
    auto marks = make_marks();
    marks->raise_mark(kRange, {}, {10, 1}, marks->announcements());
    marks->announce(kRange, {11, 7}, 0);
    CHECK(marks->mark(kRange) == ReadyKey{10, 1});
    marks->announce(kRange, {9, 7}, 0);
    CHECK(marks->mark(kRange) == ReadyKey{9, 7});
}

TEST_CASE("a job announced after the snapshot was taken holds the mark down")
{
    auto marks = make_marks();
    marks->raise_mark(kRange, {}, {10, 1}, marks->announcements());
    const auto before = marks->announcements();
    marks->announce(kRange, {15, 3}, 0);
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
    marks->announce(kRange, {15, 3}, 0);
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
    marks->announce(kRange, {5, 1},
                    0); /* after the reader asked for the mark, before its snapshot */
    marks->raise_mark(kRange, {10, 1}, {20, 1}, marks->announcements());
    CHECK(marks->mark(kRange) == ReadyKey{5, 1});
}

TEST_CASE("a range that another reader has made remembers what was announced before")
{
    auto marks = make_marks();
    const auto before = marks->announcements();
    marks->announce(kRange, {15, 3}, 0);
    marks->raise_mark(kRange, {}, {15, 3}, marks->announcements());
    CHECK(marks->mark(kRange) == ReadyKey{15, 3});
    marks->raise_mark(kRange, {}, {20, 1}, before);
    CHECK(marks->mark(kRange) == ReadyKey{15, 3});
    Backlog found{kRange, {20, 1}, 0, {}};
    REQUIRE(found.add(7));
    marks->extend_backlog(found, {}, before);
    CHECK(marks->backlog(kRange).count == 0);
}

TEST_CASE("a slow reader knows the lowest of what was announced meanwhile")
{
    auto marks = make_marks();
    marks->raise_mark(kRange, {}, {10, 1}, marks->announcements());
    const auto first = marks->announcements();
    marks->announce(kRange, {30, 0}, 0);
    for (int i = 0; i < 300; i++)
        marks->announce(kRange, {1000, i}, 0);
    const auto second = marks->announcements();
    marks->announce(kRange, {40, 0}, 0);
    for (int i = 0; i < 400; i++)
        marks->announce(kRange, {2000, i}, 0);
    marks->raise_mark(kRange, {10, 1}, {5000, 0}, first);
    CHECK(marks->mark(kRange) == ReadyKey{30, 0});
    marks->raise_mark(kRange, {30, 0}, {5000, 0}, second);
    CHECK(marks->mark(kRange) == ReadyKey{30, 0}); /* one generation knows 30 and 40 */
    for (int i = 0; i < 600; i++)
        marks->announce(kRange, {3000, i}, 0);
    marks->raise_mark(kRange, {30, 0}, {5000, 0}, first); /* too long ago */
    CHECK(marks->mark(kRange) == ReadyKey{30, 0});
    const auto third = marks->announcements();
    for (int i = 0; i < 700; i++)
        marks->announce(kRange, {4000, i}, 0);
    marks->raise_mark(kRange, {30, 0}, {5000, 0}, third);
    CHECK(marks->mark(kRange) > ReadyKey{1000, 0});
    CHECK(marks->mark(kRange) <= ReadyKey{4000, 0});
}

TEST_CASE("a backlog is lowered by jobs of other queues, not by its own")
{
    auto marks = make_marks();
    Backlog found{kRange, {50, 1}, 0, {}};
    REQUIRE(found.add(7));
    marks->extend_backlog(found, {}, marks->announcements());
    CHECK(marks->backlog(kRange).end == ReadyKey{50, 1});
    CHECK(marks->backlog({2, false, 42}).count == 0);
    marks->announce(kRange, {20, 1}, 7);
    CHECK(marks->backlog(kRange).end == ReadyKey{50, 1});
    marks->announce(kRange, {30, 1}, 8);
    CHECK(marks->backlog(kRange).end == ReadyKey{30, 1});
    marks->announce(kRange, {25, 1}, 0); /* of no queue, or of several */
    CHECK(marks->backlog(kRange).end == ReadyKey{25, 1});
    CHECK(marks->mark(kRange) == ReadyKey{});
}

TEST_CASE("a backlog has room for 32 queues, and one that is no longer true is replaced")
{
    auto marks = make_marks();
    Backlog found{kRange, {50, 1}, 0, {}};
    for (QueueHash queue = 1; queue <= Backlog::kMaxQueues; queue++)
        REQUIRE(found.add(queue));
    CHECK(found.add(1));
    CHECK_FALSE(found.add(1000));
    marks->extend_backlog(found, {}, marks->announcements());
    Backlog other{kRange, {40, 1}, 0, {}};
    REQUIRE(other.add(1000));
    marks->extend_backlog(other, {20, 1}, marks->announcements()); /* does not fit beside it */
    CHECK(marks->backlog(kRange).end == ReadyKey{50, 1});
    marks->extend_backlog(other, {}, marks->announcements()); /* from the mark on */
    CHECK(marks->backlog(kRange).end == ReadyKey{40, 1});
    CHECK(marks->backlog(kRange).count == 1);
    other.end = {60, 1};
    marks->extend_backlog(other, {45, 1}, marks->announcements()); /* from behind its end on */
    CHECK(marks->backlog(kRange).end == ReadyKey{40, 1});
    marks->extend_backlog(other, {40, 1}, marks->announcements());
    CHECK(marks->backlog(kRange).end == ReadyKey{60, 1});
    marks->forget_queues(1);
    CHECK(marks->backlog(kRange).count == 1);
    marks->forget(1);
    CHECK(marks->backlog(kRange).count == 0);
}

/* A model of committing producers, claimers that may abort, and readers that are slow, some of
 * which leave queues out: after every step each ready job of every range is at or above its range's
 * mark, and below the end of its backlog only if it is in one of the backlog's queues, unless its
 * announcement is still to come. Few ranges with colliding hashes, so that places are taken away;
 * many announcements, so that they are dropped. */
TEST_CASE("no interleaving hides a ready job")
{
    boost::random::mt19937 random(2026);
    const auto pick = [&](int low, int high) {
        return boost::random::uniform_int_distribution<int>(low, high)(random);
    };
    using Jobs = std::map<ReadyKey, QueueHash>;
    struct Job {
        RangeId range;
        ReadyKey key;
        QueueHash queue;
    };
    struct Reader {
        RangeId range;
        std::uint64_t announcements;
        Jobs visible; /* what its snapshot sees */
        std::set<QueueHash> left_out;
        std::optional<ReadyKey> from;
        Backlog backlog; /* behind which it begins */
    };
    long raised = 0;
    long extended = 0;

    for (int round = 0; round < 300; round++) {
        auto marks = make_marks();
        std::map<std::uint64_t, Jobs> ready; /* visible to new snapshots */
        std::vector<Job> unannounced;        /* committed just now */
        std::vector<Reader> readers;
        const auto ask = [&](Reader &reader) {
            reader.from = marks->mark(reader.range);
            const Backlog known = marks->backlog(reader.range);
            if (known.count == 0 || !(*reader.from < known.end))
                return;
            for (std::size_t i = 0; i < known.count; i++)
                if (reader.left_out.count(known.queues[i]) == 0)
                    return;
            reader.from = known.end;
            reader.backlog = known;
        };
        const auto tell = [&](const Reader &reader) {
            const Jobs &now = ready[reader.range.hash];
            ReadyKey first{1000, 0};
            Backlog found = reader.backlog;
            found.range = reader.range;
            found.end = {1000, 0};
            for (const auto &[key, queue] : reader.visible) {
                if (key < *reader.from || now.count(key) == 0)
                    continue;
                first = std::min(first, key);
                if (reader.left_out.count(queue) == 0 || !found.add(queue)) {
                    found.end = key;
                    break;
                }
            }
            if (reader.backlog.count == 0) {
                const ReadyKey before = marks->mark(reader.range);
                marks->raise_mark(reader.range, *reader.from, first, reader.announcements);
                raised += marks->mark(reader.range) > before ? 1 : 0;
            }
            if (found.count > 0) {
                const ReadyKey before = marks->backlog(reader.range).end;
                marks->extend_backlog(found, *reader.from, reader.announcements);
                extended += marks->backlog(reader.range).end > before ? 1 : 0;
            }
        };
        for (int step = 0; step < 400; step++) {
            /* Seven ranges that share one set of four places. */
            const RangeId range{1, false, static_cast<std::uint64_t>(pick(0, 6)) * 512};
            Jobs &jobs = ready[range.hash];
            switch (pick(0, 6)) {
            case 0: /* a job becomes visible: enqueued, or its claim rolled back */
            case 1: {
                const Job job{range, {pick(0, 30), step}, static_cast<QueueHash>(pick(0, 3))};
                jobs.emplace(job.key, job.queue);
                unannounced.push_back(job);
                break;
            }
            case 2: /* and is announced */
                if (!unannounced.empty()) {
                    const Job job = unannounced.front();
                    marks->announce(job.range, job.key, job.queue);
                    unannounced.erase(unannounced.begin());
                }
                break;
            case 3: /* the first job is claimed */
                if (!jobs.empty())
                    jobs.erase(jobs.begin());
                break;
            case 4: /* a reader notes the number and takes its snapshot */
                readers.push_back({range, marks->announcements(), jobs, {}, std::nullopt, {}});
                for (QueueHash queue = 1; queue <= 3; queue++)
                    if (pick(0, 1) == 1)
                        readers.back().left_out.insert(queue);
                break;
            case 5: /* asks where to begin */
                for (Reader &reader : readers)
                    if (!reader.from)
                        ask(reader);
                break;
            case 6: /* and tells what it has found that is still there */
                if (!readers.empty() && readers.front().from) {
                    const Reader reader = readers.front();
                    readers.erase(readers.begin());
                    tell(reader);
                }
                break;
            }
            for (const auto &[hash, of_range] : ready) {
                const ReadyKey mark = marks->mark({1, false, hash});
                const Backlog backlog = marks->backlog({1, false, hash});
                for (const auto &[key, queue] : of_range) {
                    bool coming = false;
                    for (const Job &job : unannounced)
                        coming = coming || (job.range.hash == hash && job.key == key);
                    REQUIRE((coming || key >= mark));
                    REQUIRE(
                        (coming || backlog.count == 0 || key >= backlog.end || backlog.has(queue)));
                }
            }
        }
    }
    CHECK(raised > 1000);
    CHECK(extended > 500);
}

/* fate_test.cpp - the table of fates is complete and consistent. */
#include "backfill/core/fate.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <string>
#include <vector>

using namespace backfill::core;

namespace
{

std::string counter_name(counted::JobCounter counter)
{
    switch (counter) {
    case counted::kCompleted:
        return "completed";
    case counted::kSnoozed:
        return "snoozed";
    case counted::kFailedRetryable:
        return "failed, retryable";
    case counted::kFailedPermanent:
        return "failed, permanent";
    case counted::kDroppedCancelled:
        return "dropped, cancelled";
    case counted::kDroppedSuperseded:
        return "dropped, superseded";
    case counted::kRetriesAttempted:
        return "retries attempted";
    case counted::kRetriesExhausted:
        return "retries exhausted";
    case counted::kDlqAddedMaxAttempts:
        return "dead, max attempts";
    case counted::kDlqAddedPermanent:
        return "dead, permanent";
    case counted::kDlqAddedManual:
        return "dead, manual";
    default:
        return "?";
    }
}

std::string counters_of(const FateInfo &fate)
{
    std::string names;
    for (const auto counter : fate.counters)
        if (counter)
            names += (names.empty() ? "" : "; ") + counter_name(*counter);
    return names;
}

/* As ARCHITECTURE.md prints it. */
std::string line_of(const FateInfo &fate)
{
    const char *const rows[] = {"gone", "back", "replaced"};
    const char *const costs[] = {"", "an attempt", "a free retry"};
    const char *const letters[] = {"", "written", "forgotten"};
    const std::string columns[] = {
        std::string(fate.name),
        rows[static_cast<int>(fate.row)],
        costs[static_cast<int>(fate.cost)],
        letters[static_cast<int>(fate.letter)],
        fate.yields_to_drop ? "yes" : "",
        fate.run ? counter_name(*fate.run) : "",
        counters_of(fate),
        std::string(fate.outcome),
        fate.hook ? std::string(hook_event_name(*fate.hook)) : "",
        std::string(fate.log),
    };
    std::string line = "|";
    for (const std::string &column : columns)
        line += column.empty() ? " |" : " " + column + " |";
    return line;
}

} // namespace

TEST_CASE("ARCHITECTURE.md prints the table of fates as it is")
{
    std::ifstream file("ARCHITECTURE.md");
    REQUIRE(file.is_open());
    std::string line;
    while (std::getline(file, line) && line != "## Fates")
        ;
    std::vector<std::string> printed;
    while (std::getline(file, line) && (line.empty() || line[0] != '#'))
        if (!line.empty() && line[0] == '|')
            printed.push_back(line);
    REQUIRE(printed.size() == kFateCount + 2); /* with its head */
    for (std::size_t i = 0; i < kFateCount; i++)
        CHECK(printed[i + 2] == line_of(kFates[i]));
}

TEST_CASE("every fate has its row, in its place")
{
    for (std::size_t i = 0; i < kFateCount; i++)
        CHECK(static_cast<std::size_t>(kFates[i].fate) == i);
}

TEST_CASE("what ends a job has an outcome, what goes on is no end")
{
    for (const FateInfo &fate : kFates) {
        CAPTURE(static_cast<int>(fate.fate));
        const bool goes_on = fate.row == RowAfter::kBack || fate.row == RowAfter::kReplaced;
        CHECK(fate.is_end() != goes_on);
        if (fate.is_end())
            CHECK_FALSE(fate.outcome.empty());
        if (goes_on) {
            CHECK_FALSE(fate.hook);
            CHECK((fate.outcome.empty() || fate.outcome == "retried"));
        }
    }
}

TEST_CASE("a dead letter is written of what ends for good, and never of what goes on")
{
    for (const FateInfo &fate : kFates) {
        CAPTURE(static_cast<int>(fate.fate));
        const bool is_dead = fate.outcome == "dead" || fate.outcome == "discarded";
        CHECK((fate.letter == LetterAfter::kWritten) == is_dead);
        CHECK((fate.letter == LetterAfter::kForgotten) == (fate.fate == Fate::kCompleted));
        if (!fate.is_end())
            CHECK(fate.letter == LetterAfter::kAsItWas);
    }
}

TEST_CASE("a run costs an attempt exactly if it failed and the error was the job's fault")
{
    using namespace counted;
    for (const FateInfo &fate : kFates) {
        CAPTURE(static_cast<int>(fate.fate));
        const bool failed = fate.run == kFailedRetryable || fate.run == kFailedPermanent;
        if (fate.cost != Cost::kNothing)
            CHECK(failed);
        if (failed)
            CHECK((fate.cost != Cost::kNothing || fate.fate == Fate::kCancelled));
        /* What may fail is said in the log. */
        if (failed)
            CHECK_FALSE(fate.log.empty());
    }
}

TEST_CASE("each job that ends, but not by success, is counted once as dropped or dead")
{
    using namespace counted;
    for (const FateInfo &fate : kFates) {
        CAPTURE(static_cast<int>(fate.fate));
        int dropped = 0;
        int dead = 0;
        for (const auto counter : fate.counters) {
            dropped += counter == kDroppedCancelled || counter == kDroppedSuperseded ? 1 : 0;
            dead += counter == kDlqAddedMaxAttempts || counter == kDlqAddedPermanent ||
                            counter == kDlqAddedManual
                        ? 1
                        : 0;
        }
        CHECK((dead == 1) == (fate.letter == LetterAfter::kWritten));
        if (fate.is_end())
            CHECK(dropped + dead == (fate.fate == Fate::kCompleted ? 0 : 1));
        if (fate.row == RowAfter::kBack)
            CHECK(dropped + dead == 0);
    }
}

TEST_CASE("no end of an operator's yields to another one")
{
    CHECK_FALSE(info(Fate::kBuried).yields_to_drop);
    CHECK_FALSE(info(Fate::kCancelled).yields_to_drop);
    CHECK_FALSE(info(Fate::kSuperseded).yields_to_drop);
    CHECK_FALSE(info(Fate::kReplaced).yields_to_drop);
    CHECK_FALSE(info(Fate::kCompleted).yields_to_drop);
    CHECK(info(Fate::kRetried).yields_to_drop);
    CHECK(info(Fate::kReleased).yields_to_drop);
    CHECK(info(Fate::kExhausted).yields_to_drop);
}

/* retry_decision_test.cpp - what becomes of a failed job, by its SQLSTATE and attempts. */
#include "backfill/core/retry_decision.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace backfill::core;

TEST_CASE("errors that would come again are permanent")
{
    const std::vector<std::string> states = {
        "22000", "22012", "22P02", "22023",                   /* bad data */
        "23000", "23502", "23503", "23505", "23514", "23P01", /* broken constraints */
        "42000", "42501", "42601", "42703", "42883", "42P01", /* syntax, access, missing objects */
        "0A000",                                              /* not supported */
        "28000", "28P01",                                     /* wrong authorization */
    };
    for (const std::string &state : states) {
        CAPTURE(state);
        CHECK(is_permanent_error(state));
        CHECK(decide_retry(state, 1, 8) == RetryDecision::kPermanent);
    }
}

TEST_CASE("errors that may pass are retried")
{
    const std::vector<std::string> states = {
        "08000", "08006",                   /* connection */
        "40001", "40P01",                   /* serialization failure, deadlock */
        "53000", "53100", "53200", "53300", /* resources */
        "54000", "54001",                   /* limits */
        "55000", "55006", "55P03",          /* wrong state, lock not available */
        "57014", "57P01", "57P03",          /* cancelled, shutting down */
        "58000", "58030",                   /* system error */
        "XX000", "XX001",                   /* internal */
        "P0001", "P0002", "P0004",          /* RAISE without a code, assert */
        "01000", "21000", "24000", "25006", "2BP01", "3D000", "F0000", "HV000", "JQ001", "99999",
    };
    for (const std::string &state : states) {
        CAPTURE(state);
        CHECK_FALSE(is_permanent_error(state));
        CHECK(decide_retry(state, 1, 8) == RetryDecision::kRetry);
    }
}

TEST_CASE("only the class decides, the first two characters")
{
    CHECK_FALSE(is_permanent_error("02200"));
    CHECK_FALSE(is_permanent_error("54228"));
    CHECK_FALSE(is_permanent_error("P0A00"));
    CHECK_FALSE(is_permanent_error("0a000"));
}

TEST_CASE("a state too short to have a class is not permanent")
{
    CHECK_FALSE(is_permanent_error(""));
    CHECK_FALSE(is_permanent_error("2"));
}

TEST_CASE("the last attempt allowed exhausts the job")
{
    CHECK(decide_retry("P0001", 1, 3) == RetryDecision::kRetry);
    CHECK(decide_retry("P0001", 2, 3) == RetryDecision::kRetry);
    CHECK(decide_retry("P0001", 3, 3) == RetryDecision::kExhausted);
    CHECK(decide_retry("P0001", 4, 3) == RetryDecision::kExhausted);
    CHECK(decide_retry("P0001", 1, 1) == RetryDecision::kExhausted);
    CHECK(decide_retry("P0001", 32766, 32767) == RetryDecision::kRetry);
    CHECK(decide_retry("P0001", 32767, 32767) == RetryDecision::kExhausted);
}

TEST_CASE("a permanent error is called permanent also in the last attempt")
{
    CHECK(decide_retry("22012", 1, 1) == RetryDecision::kPermanent);
    CHECK(decide_retry("22012", 9, 8) == RetryDecision::kPermanent);
}

/* retry_decision_test.cpp - how errors are classified, and what becomes of a failed job. */
#include "backfill/core/retry_decision.hpp"

#include <doctest/doctest.h>

using namespace backfill::core;

namespace
{

/* The shape of the rules that come with the extension. */
ErrorRules builtin_rules()
{
    ErrorRules rules;
    rules.add({1, "", "22", "", ErrorClass::kPermanent, true});
    rules.add({2, "", "40001", "", ErrorClass::kFreeRetry, true});
    rules.add({3, "", "", "timeout", ErrorClass::kRetry, true});
    rules.add({4, "", "", "not found", ErrorClass::kPermanent, true});
    return rules;
}

} // namespace

TEST_CASE("names of classes go both ways")
{
    for (const ErrorClass value :
         {ErrorClass::kRetry, ErrorClass::kFreeRetry, ErrorClass::kPermanent})
        CHECK(error_class_from_name(error_class_name(value)) == value);
    CHECK_FALSE(error_class_from_name("never").has_value());
    CHECK_FALSE(error_class_from_name("").has_value());
}

TEST_CASE("a rule for a class covers its states, nothing else is touched")
{
    const ErrorRules rules = builtin_rules();
    CHECK(rules.classify("t", "22012") == ErrorClass::kPermanent);
    CHECK(rules.classify("t", "22P02") == ErrorClass::kPermanent);
    CHECK(rules.classify("t", "40001") == ErrorClass::kFreeRetry);
    CHECK(rules.classify("t", "40P01") == ErrorClass::kRetry);
    CHECK(rules.classify("t", "02200") == ErrorClass::kRetry);
    CHECK(rules.classify("t", "") == ErrorClass::kRetry);
    CHECK(rules.classify("t", "2") == ErrorClass::kRetry);
}

TEST_CASE("the longer state beats the class, a user's rule the built-in one, a task's rule all")
{
    ErrorRules rules = builtin_rules();
    rules.add({10, "", "22012", "", ErrorClass::kRetry, true});
    CHECK(rules.classify("t", "22012") == ErrorClass::kRetry);
    rules.add({1000, "", "22", "", ErrorClass::kFreeRetry, false});
    CHECK(rules.classify("t", "22012") == ErrorClass::kFreeRetry);
    rules.add({1001, "t", "22", "", ErrorClass::kPermanent, false});
    CHECK(rules.classify("t", "22012") == ErrorClass::kPermanent);
    CHECK(rules.classify("other", "22012") == ErrorClass::kFreeRetry);
    rules.add({1002, "t", "22", "", ErrorClass::kRetry, false});
    CHECK(rules.classify("t", "22012") == ErrorClass::kRetry); /* the later of equals */
}

TEST_CASE("texts are found anywhere, in any case of letters, the first rule counts")
{
    const ErrorRules rules = builtin_rules();
    CHECK(rules.classify_text("t", "404 Not Found") == ErrorClass::kPermanent);
    CHECK(rules.classify_text("t", "Timeout: host not found") == ErrorClass::kRetry);
    CHECK(rules.classify_text("t", "something else") == ErrorClass::kRetry);
    CHECK(rules.classify_text("t", "") == ErrorClass::kRetry);
    /* A state's rule says nothing about texts, and the reverse. */
    CHECK(rules.classify_text("t", "22012") == ErrorClass::kRetry);
}

TEST_CASE("attempts decide about errors that may pass")
{
    CHECK(decide_retry(ErrorClass::kRetry, 1, 3, 0, 20) == Fate::kRetried);
    CHECK(decide_retry(ErrorClass::kRetry, 2, 3, 0, 20) == Fate::kRetried);
    CHECK(decide_retry(ErrorClass::kRetry, 3, 3, 0, 20) == Fate::kExhausted);
    CHECK(decide_retry(ErrorClass::kRetry, 4, 3, 0, 20) == Fate::kExhausted);
    CHECK(decide_retry(ErrorClass::kRetry, 1, 1, 0, 20) == Fate::kExhausted);
    CHECK(decide_retry(ErrorClass::kRetry, 32767, 32767, 0, 20) == Fate::kExhausted);
}

TEST_CASE("a permanent error is called permanent also in the last attempt")
{
    CHECK(decide_retry(ErrorClass::kPermanent, 1, 8, 0, 20) == Fate::kPermanent);
    CHECK(decide_retry(ErrorClass::kPermanent, 9, 8, 0, 20) == Fate::kPermanent);
}

TEST_CASE("free retries cost nothing up to the limit, then an attempt each")
{
    CHECK(decide_retry(ErrorClass::kFreeRetry, 1, 1, 0, 2) == Fate::kFreeRetried);
    CHECK(decide_retry(ErrorClass::kFreeRetry, 1, 1, 1, 2) == Fate::kFreeRetried);
    CHECK(decide_retry(ErrorClass::kFreeRetry, 1, 1, 2, 2) == Fate::kExhausted);
    CHECK(decide_retry(ErrorClass::kFreeRetry, 1, 3, 2, 2) == Fate::kRetried);
    CHECK(decide_retry(ErrorClass::kFreeRetry, 1, 3, 0, 0) == Fate::kRetried);
}

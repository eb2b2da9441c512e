/* retry_decision.hpp - what becomes of a job that failed. */
#pragma once

#include "backfill/core/fate.hpp"

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace backfill::core
{

/* What an error means for the job, as a rule says it. */
enum class ErrorClass {
    kRetry,     /* try again after a delay; costs an attempt */
    kFreeRetry, /* not the job's fault (deadlock, serialization): try again, costs nothing */
    kPermanent, /* it would come again however often the job ran */
};

std::optional<ErrorClass> error_class_from_name(std::string_view name);
std::string_view error_class_name(ErrorClass error_class);

/* A built-in rule, or a row of backfill.error_rule; empty strings where the column is NULL. */
struct ErrorRule {
    int id;
    std::string task;
    std::string sqlstate;
    std::string message_contains; /* in lower case */
    ErrorClass error_class;
    bool builtin;
};

/* What holds without any row. No rows themselves: they would be replicated and restored into a
 * database that has them. */
struct BuiltinRule {
    int id; /* below those of rows */
    std::string_view sqlstate;
    std::string_view message_contains;
    ErrorClass error_class;
};
std::span<const BuiltinRule> builtin_error_rules();

class ErrorRules
{
  public:
    void add_builtin();
    void add(ErrorRule rule) { rules_.push_back(std::move(rule)); }
    /* By SQLSTATE: errors of the server. Without a rule: kRetry. */
    ErrorClass classify(std::string_view task, std::string_view sqlstate) const;
    /* By text: failures that consumers report. Without a rule: kRetry. */
    ErrorClass classify_text(std::string_view task, std::string_view message) const;

  private:
    std::vector<ErrorRule> rules_;
};

/* kRetried, kFreeRetried, kExhausted or kPermanent. failed_attempts counts the attempt that has
 * just failed. After max_free_retries an error that is free costs an attempt like any other. */
Fate decide_retry(ErrorClass error_class, int failed_attempts, int max_attempts, int free_retries,
                  int max_free_retries);

} // namespace backfill::core

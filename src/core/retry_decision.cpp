/* retry_decision.cpp - see retry_decision.hpp. */
#include "backfill/core/retry_decision.hpp"

#include "backfill/core/sqlstates.hpp"

#include <algorithm>
#include <array>

namespace backfill::core
{

namespace
{

struct NamedClass {
    std::string_view name;
    ErrorClass error_class;
};

constexpr std::array<NamedClass, 3> kClasses = {{
    {"retry", ErrorClass::kRetry},
    {"free_retry", ErrorClass::kFreeRetry},
    {"permanent", ErrorClass::kPermanent},
}};

constexpr BuiltinRule kBuiltin[] = {
    {1, "0A", "", ErrorClass::kPermanent},
    {2, "22", "", ErrorClass::kPermanent},
    {3, "23", "", ErrorClass::kPermanent},
    {4, "28", "", ErrorClass::kPermanent},
    {5, "42", "", ErrorClass::kPermanent},
    {6, sqlstate::kNeverRetry, "", ErrorClass::kPermanent},
    {7, sqlstate::kSerializationFailure, "", ErrorClass::kFreeRetry},
    {8, sqlstate::kDeadlockDetected, "", ErrorClass::kFreeRetry},
    {9, sqlstate::kLockNotAvailable, "", ErrorClass::kFreeRetry},
    {20, "", "timeout", ErrorClass::kRetry},
    {21, "", "network", ErrorClass::kRetry},
    {22, "", "connection", ErrorClass::kRetry},
    {23, "", "unavailable", ErrorClass::kRetry},
    {24, "", "rate limit", ErrorClass::kRetry},
    {25, "", "too many requests", ErrorClass::kRetry},
    {26, "", "busy", ErrorClass::kRetry},
    {27, "", "overloaded", ErrorClass::kRetry},
    {40, "", "invalid input", ErrorClass::kPermanent},
    {41, "", "malformed", ErrorClass::kPermanent},
    {42, "", "parse error", ErrorClass::kPermanent},
    {43, "", "unauthorized", ErrorClass::kPermanent},
    {44, "", "forbidden", ErrorClass::kPermanent},
    {45, "", "permission denied", ErrorClass::kPermanent},
    {46, "", "not found", ErrorClass::kPermanent},
    {47, "", "validation failed", ErrorClass::kPermanent},
    {48, "", "bad request", ErrorClass::kPermanent},
};

std::string lower_case(std::string_view text)
{
    std::string lower(text);
    for (char &c : lower)
        if (c >= 'A' && c <= 'Z')
            c = static_cast<char>(c - 'A' + 'a');
    return lower;
}

bool is_for(const ErrorRule &rule, std::string_view task)
{
    return rule.task.empty() || rule.task == task;
}

/* The better rule has the greater rank: for the task, of the user, the longer SQLSTATE. */
int rank(const ErrorRule &rule)
{
    return (rule.task.empty() ? 0 : 100) + (rule.builtin ? 0 : 10) +
           static_cast<int>(rule.sqlstate.size());
}

} // namespace

std::optional<ErrorClass> error_class_from_name(std::string_view name)
{
    for (const NamedClass &named : kClasses)
        if (named.name == name)
            return named.error_class;
    return std::nullopt;
}

std::string_view error_class_name(ErrorClass error_class)
{
    for (const NamedClass &named : kClasses)
        if (named.error_class == error_class)
            return named.name;
    return kClasses.front().name;
}

std::span<const BuiltinRule> builtin_error_rules()
{
    return kBuiltin;
}

void ErrorRules::add_builtin()
{
    for (const BuiltinRule &rule : kBuiltin)
        add({rule.id,
             {},
             std::string(rule.sqlstate),
             std::string(rule.message_contains),
             rule.error_class,
             true});
}

ErrorClass ErrorRules::classify(std::string_view task, std::string_view sqlstate) const
{
    const ErrorRule *best = nullptr;
    for (const ErrorRule &rule : rules_) {
        const bool matches = !rule.sqlstate.empty() && is_for(rule, task) &&
                             sqlstate.substr(0, rule.sqlstate.size()) == rule.sqlstate;
        if (matches && (best == nullptr || rank(rule) > rank(*best) ||
                        (rank(rule) == rank(*best) && rule.id > best->id)))
            best = &rule;
    }
    return best == nullptr ? ErrorClass::kRetry : best->error_class;
}

ErrorClass ErrorRules::classify_text(std::string_view task, std::string_view message) const
{
    const std::string lower = lower_case(message);
    const ErrorRule *best = nullptr;
    for (const ErrorRule &rule : rules_) {
        const bool matches = !rule.message_contains.empty() && is_for(rule, task) &&
                             lower.find(rule.message_contains) != std::string::npos;
        if (matches && (best == nullptr || rank(rule) > rank(*best) ||
                        (rank(rule) == rank(*best) && rule.id < best->id)))
            best = &rule;
    }
    return best == nullptr ? ErrorClass::kRetry : best->error_class;
}

Fate decide_retry(ErrorClass error_class, int failed_attempts, int max_attempts, int free_retries,
                  int max_free_retries)
{
    if (error_class == ErrorClass::kPermanent)
        return Fate::kPermanent;
    if (error_class == ErrorClass::kFreeRetry && free_retries < max_free_retries)
        return Fate::kFreeRetried;
    return failed_attempts >= max_attempts ? Fate::kExhausted : Fate::kRetried;
}

} // namespace backfill::core

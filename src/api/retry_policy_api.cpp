/* retry_policy_api.cpp - SQL functions about retry policies. */
#include "backfill/audit/audit.hpp"
#include "backfill/enqueue/job_spec.hpp"
#include "backfill/pg/table.hpp"
#include "backfill/settle/backoff.hpp"

using namespace backfill;

namespace
{

constexpr int kMaxPolicyName = 128;

int64 check_delay(const char *argument, const Interval &delay)
{
    /* Compared as a number of days: microseconds could overflow. */
    const double days = pg::approximate_days(delay);
    if (days < 0)
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             std::string(argument) + " must not be negative: " + pg::to_text(delay));
    if (days > static_cast<double>(core::kLongestDelayUs / USECS_PER_DAY))
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             std::string(argument) + " is too long: " + pg::to_text(delay),
             "It must not exceed 36500 days.");
    return pg::to_microseconds(delay);
}

/* As PostgreSQL would show it: 1.5, NaN. */
std::string to_plain_text(double number)
{
    return pg::call(
        [&] { return DatumGetCString(DirectFunctionCall1(float8out, Float8GetDatum(number))); });
}

void check_policy(const core::RetryPolicy &policy)
{
    queue::check_max_attempts(policy.max_attempts);
    if (!(policy.multiplier >= 1 && policy.multiplier <= 1000))
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "multiplier is out of range: " + to_plain_text(policy.multiplier),
             "It must be between 1 and 1000.");
    if (!(policy.jitter_factor >= 0 && policy.jitter_factor <= 1))
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "jitter_factor is out of range: " + to_plain_text(policy.jitter_factor),
             "It must be between 0 and 1.");
}

Datum delay_datum(const core::RetryPolicy &policy, int attempt)
{
    if (attempt < 0)
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "attempt must not be negative: " + std::to_string(attempt));
    return PointerGetDatum(pg::from_microseconds(queue::backoff_delay_us(policy, attempt)));
}

void add_policy(pg::ResultSet &result, std::string_view name, const core::RetryPolicy &policy,
                bool preset)
{
    const Datum values[] = {pg::from_text(name),
                            Int16GetDatum(static_cast<int16>(policy.max_attempts)),
                            PointerGetDatum(pg::from_microseconds(policy.initial_us)),
                            PointerGetDatum(pg::from_microseconds(policy.max_us)),
                            Float8GetDatum(policy.multiplier),
                            Float8GetDatum(policy.jitter_factor),
                            BoolGetDatum(preset)};
    const bool nulls[std::size(values)] = {};
    result.add(values, nulls);
}

} // namespace

BACKFILL_FUNCTION(backfill_set_retry_policy)
{
    const pg::Arguments arguments(fcinfo);
    const auto name = queue::require_text("policy_name", arguments.text(0));
    pg::prevent_if_read_only("set_retry_policy()");
    if (name.empty() || name.size() > kMaxPolicyName)
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "policy_name must have between 1 and 128 bytes: \"" + pg::shortened(name) + "\"");

    core::RetryPolicy policy = queue::policy_of(*queue::config(), name);
    policy.max_attempts = arguments.int4(1).value_or(policy.max_attempts);
    if (arguments.interval(2) != nullptr)
        policy.initial_us = check_delay("initial_delay", *arguments.interval(2));
    if (arguments.interval(3) != nullptr)
        policy.max_us = check_delay("max_delay", *arguments.interval(3));
    policy.multiplier = arguments.float8(4).value_or(policy.multiplier);
    policy.jitter_factor = arguments.float8(5).value_or(policy.jitter_factor);
    check_policy(policy);
    if (policy.max_us < policy.initial_us)
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "max_delay must not be shorter than initial_delay: " +
                 pg::to_text(*pg::from_microseconds(policy.max_us)),
             "initial_delay is " + pg::to_text(*pg::from_microseconds(policy.initial_us)) + ".",
             "An argument that is left out keeps the policy's present value, or that of preset "
             "default: give both.");

    const pg::Param params[] = {
        pg::text_param(name),
        pg::int2_param(policy.max_attempts),
        pg::interval_param(pg::from_microseconds(policy.initial_us)),
        pg::interval_param(pg::from_microseconds(policy.max_us)),
        pg::float8_param(policy.multiplier),
        pg::float8_param(policy.jitter_factor),
    };
    const audit::Change change(audit::kind::kRetryPolicy, name,
                               "SELECT pg_catalog.to_jsonb(p) - 'policy_name'"
                               "  FROM backfill.retry_policy p WHERE p.policy_name = $1 FOR UPDATE",
                               std::span(params, 1));
    (void) pg::execute_as_owner(
        "INSERT INTO backfill.retry_policy (policy_name, max_attempts, initial_delay, max_delay,"
        "   multiplier, jitter_factor)"
        " VALUES ($1, $2, $3, $4, $5, $6)"
        " ON CONFLICT (policy_name) DO UPDATE SET"
        "   max_attempts = excluded.max_attempts, initial_delay = excluded.initial_delay,"
        "   max_delay = excluded.max_delay, multiplier = excluded.multiplier,"
        "   jitter_factor = excluded.jitter_factor",
        params);
    change.note(fcinfo);
    return static_cast<Datum>(0);
}

BACKFILL_FUNCTION(backfill_backoff_delay_policy)
{
    const pg::Arguments arguments(fcinfo);
    const auto name = *arguments.text(1);
    const auto current = queue::config();
    queue::check_retry_policy(*current, name);
    return delay_datum(queue::policy_of(*current, name), *arguments.int4(0));
}

BACKFILL_FUNCTION(backfill_backoff_delay)
{
    const pg::Arguments arguments(fcinfo);
    const core::RetryPolicy policy = {*arguments.int4(1),
                                      check_delay("initial_delay", *arguments.interval(2)),
                                      check_delay("max_delay", *arguments.interval(3)),
                                      *arguments.float8(4), *arguments.float8(5)};
    check_policy(policy);
    return delay_datum(policy, *arguments.int4(0));
}

BACKFILL_FUNCTION(backfill_retry_policies)
{
    const auto current = queue::config();
    pg::ResultSet result(fcinfo);
    for (const core::NamedPolicy &preset : core::preset_policies()) {
        const auto &changed = current->user_policies();
        const bool shadowed = std::any_of(changed.begin(), changed.end(), [&](const auto &policy) {
            return policy.first == preset.name;
        });
        if (!shadowed)
            add_policy(result, preset.name, preset.policy, true);
    }
    for (const auto &[name, policy] : current->user_policies())
        add_policy(result, name, policy, false);
    return static_cast<Datum>(0);
}

/* subtransaction.cpp - see subtransaction.hpp. */
#include "backfill/pg/subtransaction.hpp"

#include "backfill/pg/datum.hpp"

namespace backfill::pg
{

std::optional<int64> parse_delay(const std::string &text)
{
    constexpr double kLongestDays = 36500;
    std::optional<int64> delay;
    (void) in_subtransaction([&] {
        const Interval *interval = call([&] {
            return DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(text.c_str()),
                                                         ObjectIdGetDatum(InvalidOid),
                                                         Int32GetDatum(-1)));
        });
        const double days = approximate_days(*interval);
        if (days <= kLongestDays)
            delay = days < 0 ? -1 : to_microseconds(*interval);
    });
    return delay;
}

} // namespace backfill::pg

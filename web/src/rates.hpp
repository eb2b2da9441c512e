/* rates.hpp - from the counters of one overview and those before it to figures per second. */
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace backfill::web
{

/* What is shown of a moment; nothing where it cannot be told. */
struct Figures {
    std::int64_t at_ms = 0;
    std::optional<double> ready;
    std::optional<double> enqueued; /* per second, as the next two */
    std::optional<double> completed;
    std::optional<double> failed;
    std::optional<double> wait_p95; /* seconds, of the last ten samples */
    std::optional<double> run_p95;

    /* [at_ms, ready, enqueued, completed, failed, wait_p95, run_p95] */
    std::string to_json() const;
};

/* Counts per bucket since the server's start; bounds are the upper ends, the last bucket may have
 * none. */
struct Histogram {
    std::vector<double> bounds;
    std::vector<double> counts;
};

/* The value that 95 of 100 observations between two moments do not exceed, as far as buckets tell.
 */
std::optional<double> p95_between(const Histogram &before, const Histogram &after);

/* null where there is no value. */
nlohmann::json or_null(const std::optional<double> &value);

class Rates
{
  public:
    /* overview: the JSON of overview(). */
    Figures add(std::string_view overview, std::int64_t at_ms);

  private:
    struct Sample {
        std::int64_t at_ms = 0;
        std::optional<double> ready, enqueued, completed, failed;
        Histogram wait, run;
    };
    static constexpr std::size_t kWindow = 11;
    std::deque<Sample> samples_;

    static Sample read(std::string_view overview, std::int64_t at_ms);
};

} // namespace backfill::web

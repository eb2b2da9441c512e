/* exposition.hpp - the catalogue of metrics, and their text for Prometheus.
 *
 * The text is Prometheus' exposition format, version 0.0.4: HELP and TYPE before the
 * series of a metric, label values with backslash, quote and newline escaped, histograms
 * as cumulative buckets. Counters get the suffix _total there, and only there. */
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace backfill::core
{

enum class MetricKind { kCounter, kGauge, kHistogram };

struct Metric {
    std::string_view name;
    MetricKind kind;
    std::string_view help;
};

/* Every metric that there is, in the order in which the text lists them. */
std::span<const Metric> metric_catalogue();
const Metric *find_metric(std::string_view name);
/* counter, gauge or histogram. */
std::string_view kind_name(MetricKind kind);

/* One series of a metric. */
struct Sample {
    std::string name;
    std::vector<std::pair<std::string, std::string>> labels;
    double value = 0; /* of a histogram: how many observations */
    /* Histograms only. counts[i] observations were at most bounds[i]. */
    double sum = 0;
    std::vector<double> bounds;
    std::vector<std::int64_t> counts;
};

/* The text for samples of metrics in the catalogue; others are left out. Series of one
 * metric keep their order. */
std::string to_exposition(std::span<const Sample> samples);

} // namespace backfill::core

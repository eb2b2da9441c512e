/* exposition_test.cpp - the text that Prometheus reads. */
#include "backfill/core/exposition.hpp"

#include <doctest/doctest.h>

#include <cctype>
#include <limits>
#include <set>
#include <sstream>

using namespace backfill::core;

namespace
{

using Labels = std::vector<std::pair<std::string, std::string>>;

Sample sample(const char *name, Labels labels, double value)
{
    Sample result;
    result.name = name;
    result.labels = std::move(labels);
    result.value = value;
    return result;
}

std::string text_of(std::vector<Sample> samples)
{
    return to_exposition(samples);
}

/* The text without its HELP and TYPE lines. */
std::string series_of(std::vector<Sample> samples)
{
    std::istringstream lines(text_of(std::move(samples)));
    std::string result;
    for (std::string line; std::getline(lines, line);)
        if (line.rfind("#", 0) != 0)
            result += line + "\n";
    return result;
}

std::string value_of(double value)
{
    const std::string line = series_of({sample("backfill_dlq_size", {}, value)});
    const std::string prefix = "backfill_dlq_size ";
    REQUIRE(line.rfind(prefix, 0) == 0);
    return line.substr(prefix.size(), line.size() - prefix.size() - 1);
}

} // namespace

TEST_CASE("names and helps in the catalogue keep Prometheus' rules")
{
    std::set<std::string_view> names;
    for (const Metric &metric : metric_catalogue()) {
        CAPTURE(metric.name);
        CHECK(names.insert(metric.name).second);
        CHECK(metric.name.rfind("backfill_", 0) == 0);
        for (const char c : metric.name)
            CHECK((c == '_' || std::islower(static_cast<unsigned char>(c))));
        /* The suffix belongs to the text only. */
        CHECK(metric.name.find("_total") == std::string_view::npos);
        CHECK_FALSE(metric.help.empty());
        CHECK(metric.help.find_first_of("\\\n\"") == std::string_view::npos);
        CHECK(find_metric(metric.name) == &metric);
    }
    CHECK(names.size() == 23);
    CHECK(find_metric("backfill_jobs") == nullptr);
    CHECK(find_metric("") == nullptr);
}

TEST_CASE("a counter has HELP, TYPE and the suffix _total on all of its lines")
{
    const Metric *metric = find_metric("backfill_jobs_enqueued");
    REQUIRE(metric != nullptr);
    CHECK(text_of({sample("backfill_jobs_enqueued", {{"task", "a"}, {"queue", "fast"}}, 3),
                   sample("backfill_jobs_enqueued", {{"task", "b"}, {"queue", ""}}, 0)}) ==
          "# HELP backfill_jobs_enqueued_total " + std::string(metric->help) +
              "\n"
              "# TYPE backfill_jobs_enqueued_total counter\n"
              "backfill_jobs_enqueued_total{task=\"a\",queue=\"fast\"} 3\n"
              "backfill_jobs_enqueued_total{task=\"b\",queue=\"\"} 0\n");
}

TEST_CASE("a gauge has its plain name, and no braces without labels")
{
    const std::string text = text_of({sample("backfill_dlq_size", {}, 7)});
    CHECK(text.find("# TYPE backfill_dlq_size gauge\n") != std::string::npos);
    CHECK(text.find("\nbackfill_dlq_size 7\n") != std::string::npos);
}

TEST_CASE("a histogram has its buckets, +Inf, the sum and the count")
{
    Sample histogram = sample("backfill_jobs_duration_seconds", {{"task", "t"}}, 5);
    histogram.sum = 12.25;
    histogram.bounds = {0.01, 0.5, 2.5, 600};
    histogram.counts = {1, 1, 4, 4};
    CHECK(series_of({histogram}) ==
          "backfill_jobs_duration_seconds_bucket{task=\"t\",le=\"0.01\"} 1\n"
          "backfill_jobs_duration_seconds_bucket{task=\"t\",le=\"0.5\"} 1\n"
          "backfill_jobs_duration_seconds_bucket{task=\"t\",le=\"2.5\"} 4\n"
          "backfill_jobs_duration_seconds_bucket{task=\"t\",le=\"600\"} 4\n"
          "backfill_jobs_duration_seconds_bucket{task=\"t\",le=\"+Inf\"} 5\n"
          "backfill_jobs_duration_seconds_sum{task=\"t\"} 12.25\n"
          "backfill_jobs_duration_seconds_count{task=\"t\"} 5\n");
    CHECK(text_of({histogram}).find("# TYPE backfill_jobs_duration_seconds histogram\n") !=
          std::string::npos);
}

TEST_CASE("a histogram without labels still has le in braces")
{
    Sample histogram = sample("backfill_jobs_wait_time_seconds", {}, 0);
    histogram.bounds = {1};
    histogram.counts = {0};
    CHECK(series_of({histogram}) == "backfill_jobs_wait_time_seconds_bucket{le=\"1\"} 0\n"
                                    "backfill_jobs_wait_time_seconds_bucket{le=\"+Inf\"} 0\n"
                                    "backfill_jobs_wait_time_seconds_sum 0\n"
                                    "backfill_jobs_wait_time_seconds_count 0\n");
}

TEST_CASE("backslash, quote and newline in a label's value are escaped, and nothing else")
{
    CHECK(series_of({sample("backfill_dlq_size", {{"task", "a\\b\"c\nd"}}, 1)}) ==
          "backfill_dlq_size{task=\"a\\\\b\\\"c\\nd\"} 1\n");
    CHECK(series_of({sample("backfill_dlq_size", {{"task", "{}=,#\t'\xc3\xa4"}}, 1)}) ==
          "backfill_dlq_size{task=\"{}=,#\t'\xc3\xa4\"} 1\n");
    /* What looks like an escape already is data, too. */
    CHECK(series_of({sample("backfill_dlq_size", {{"task", "\\n"}}, 1)}) ==
          "backfill_dlq_size{task=\"\\\\n\"} 1\n");
}

TEST_CASE("the series of a metric stand together under one header, in the catalogue's order")
{
    const std::string text = text_of({
        sample("backfill_dlq_size", {{"task", "a"}}, 1),
        sample("backfill_jobs_started", {{"task", "a"}}, 2),
        sample("backfill_dlq_size", {{"task", "b"}}, 3),
    });
    const auto at = [&](const char *line) { return text.find(line); };
    CHECK(at("backfill_jobs_started_total{") < at("# HELP backfill_dlq_size"));
    CHECK(at("# HELP backfill_dlq_size") == text.rfind("# HELP backfill_dlq_size"));
    CHECK(at("backfill_dlq_size{task=\"a\"} 1\nbackfill_dlq_size{task=\"b\"} 3\n") !=
          std::string::npos);
}

TEST_CASE("numbers are whole where they can be, and otherwise read back as they were")
{
    CHECK(value_of(0) == "0");
    CHECK(value_of(-3) == "-3");
    CHECK(value_of(1e15) == "1000000000000000");
    CHECK(value_of(9007199254740992.0) == "9007199254740992");
    CHECK(value_of(0.1) == "0.1");
    CHECK(value_of(1.0 / 3) == "0.3333333333333333");
    CHECK(std::stod(value_of(1e300)) == 1e300);
    CHECK(std::stod(value_of(1e-300)) == 1e-300);
    CHECK(value_of(std::numeric_limits<double>::infinity()) == "+Inf");
    CHECK(value_of(-std::numeric_limits<double>::infinity()) == "-Inf");
    CHECK(value_of(std::numeric_limits<double>::quiet_NaN()) == "NaN");
}

TEST_CASE("without samples there is no text, and strangers are left out")
{
    CHECK(text_of({}).empty());
    CHECK(text_of({sample("somebody_elses", {}, 1)}).empty());
}

TEST_CASE("kinds are named as Prometheus names them")
{
    CHECK(kind_name(MetricKind::kCounter) == "counter");
    CHECK(kind_name(MetricKind::kGauge) == "gauge");
    CHECK(kind_name(MetricKind::kHistogram) == "histogram");
}

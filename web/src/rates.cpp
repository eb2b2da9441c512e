/* rates.cpp - see rates.hpp. */
#include "rates.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdlib>

namespace backfill::web
{

namespace
{

using Json = nlohmann::json;

/* A longer pause says nothing of any second in it. */
constexpr std::int64_t kLongestStepMs = 15000;

const Json &at(const Json &json, const char *name)
{
    static const Json none;
    const auto found = json.is_object() ? json.find(name) : json.end();
    return found == json.end() ? none : *found;
}

/* Counters are strings, because they may be larger than JavaScript's numbers. */
std::optional<double> number(const Json &json)
{
    if (json.is_number())
        return json.get<double>();
    if (json.is_string())
        return std::strtod(json.get_ref<const std::string &>().c_str(), nullptr);
    return {};
}

std::vector<double> numbers(const Json &json)
{
    std::vector<double> list;
    if (json.is_array())
        for (const Json &element : json)
            list.push_back(number(element).value_or(0));
    return list;
}

Histogram histogram(const Json &json)
{
    return {numbers(at(json, "bounds")), numbers(at(json, "counts"))};
}

/* Nothing after the server has begun to count anew. */
std::optional<double> rate(const std::optional<double> &before, const std::optional<double> &after,
                           std::int64_t ms)
{
    if (!before || !after || *after < *before || ms <= 0 || ms > kLongestStepMs)
        return {};
    return (*after - *before) * 1000 / static_cast<double>(ms);
}

} // namespace

Json or_null(const std::optional<double> &value)
{
    return value ? Json(*value) : Json(nullptr);
}

std::string Figures::to_json() const
{
    return Json({at_ms, or_null(ready), or_null(enqueued), or_null(completed), or_null(failed),
                 or_null(wait_p95), or_null(run_p95)})
        .dump();
}

std::optional<double> p95_between(const Histogram &before, const Histogram &after)
{
    const std::size_t buckets = after.counts.size();
    if (before.counts.size() != buckets || after.bounds.empty())
        return {};
    double total = 0;
    for (std::size_t i = 0; i < buckets; i++) {
        if (after.counts[i] < before.counts[i])
            return {};
        total += after.counts[i] - before.counts[i];
    }
    if (total < 1)
        return {};
    const double wanted = 0.95 * total;
    double below = 0;
    for (std::size_t i = 0; i < std::min(buckets, after.bounds.size()); i++) {
        const double here = after.counts[i] - before.counts[i];
        const double lower = i == 0 ? 0 : after.bounds[i - 1];
        if (below + here >= wanted)
            return lower + (after.bounds[i] - lower) * (wanted - below) / here;
        below += here;
    }
    return after.bounds.back();
}

Rates::Sample Rates::read(std::string_view overview, std::int64_t at_ms)
{
    const Json json = Json::parse(overview, nullptr, false);
    const Json &counters = at(json, "counters");
    return {at_ms,
            number(at(at(at(json, "jobs"), "ready"), "count")),
            number(at(counters, "enqueued")),
            number(at(counters, "completed")),
            number(at(counters, "failed")),
            histogram(at(json, "wait")),
            histogram(at(json, "run"))};
}

Figures Rates::add(std::string_view overview, std::int64_t at_ms)
{
    if (!samples_.empty() && at_ms - samples_.back().at_ms > kLongestStepMs)
        samples_.clear();
    samples_.push_back(read(overview, at_ms));
    if (samples_.size() > kWindow)
        samples_.pop_front();
    const Sample &now = samples_.back();
    Figures figures{at_ms, now.ready, {}, {}, {}, {}, {}};
    if (samples_.size() < 2)
        return figures;
    const Sample &before = samples_[samples_.size() - 2];
    const std::int64_t step = at_ms - before.at_ms;
    figures.enqueued = rate(before.enqueued, now.enqueued, step);
    figures.completed = rate(before.completed, now.completed, step);
    figures.failed = rate(before.failed, now.failed, step);
    figures.wait_p95 = p95_between(samples_.front().wait, now.wait);
    figures.run_p95 = p95_between(samples_.front().run, now.run);
    return figures;
}

} // namespace backfill::web

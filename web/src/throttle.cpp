/* throttle.cpp - see throttle.hpp. */
#include "throttle.hpp"

#include <algorithm>
#include <cmath>

namespace backfill::web
{

double Throttle::left_of(const Bucket &bucket, TimePoint now) const
{
    const std::chrono::duration<double> passed = now - bucket.at;
    const std::chrono::duration<double> refill = refill_;
    return std::min(tries_, bucket.left + passed / refill);
}

/* With very many keys, first those that have waited out their time, then the fullest. An attacker
 * with many addresses or names cannot use up the memory, and gains tries of keys that it has left
 * alone. */
void Throttle::forget_some(TimePoint now)
{
    sweep(now);
    while (buckets_.size() >= most_) {
        const auto fullest =
            std::max_element(buckets_.begin(), buckets_.end(), [&](const auto &a, const auto &b) {
                return left_of(a.second, now) < left_of(b.second, now);
            });
        buckets_.erase(fullest);
    }
}

void Throttle::sweep(TimePoint now)
{
    std::erase_if(buckets_,
                  [&](const auto &entry) { return left_of(entry.second, now) >= tries_; });
}

int Throttle::take(std::string_view key, TimePoint now)
{
    auto entry = buckets_.find(key);
    if (entry == buckets_.end()) {
        if (buckets_.size() >= most_)
            forget_some(now);
        entry = buckets_.emplace(std::string(key), Bucket{tries_, now}).first;
    }
    Bucket &bucket = entry->second;
    bucket = {left_of(bucket, now), now};
    if (bucket.left < 1)
        return static_cast<int>(
            std::ceil((1 - bucket.left) * static_cast<double>(refill_.count()) + 0.001));
    bucket.left -= 1;
    return 0;
}

void Throttle::refund(std::string_view key, TimePoint now)
{
    const auto entry = buckets_.find(key);
    if (entry == buckets_.end())
        return;
    entry->second = {std::min(tries_, left_of(entry->second, now) + 1), now};
    if (entry->second.left >= tries_)
        buckets_.erase(entry);
}

namespace
{

/* No address has a blank in it. */
std::string both(const std::string &name, const std::string &address)
{
    return address + " " + name;
}

} // namespace

int LoginThrottle::take(const std::string &name, const std::string &address, TimePoint now)
{
    if (const int seconds = of_address_.take(address, now); seconds > 0)
        return seconds;
    if (const int seconds = of_both_.take(both(name, address), now); seconds > 0) {
        of_address_.refund(address, now);
        return seconds;
    }
    if (const int seconds = of_name_.take(name, now); seconds > 0) {
        of_address_.refund(address, now);
        of_both_.refund(both(name, address), now);
        return seconds;
    }
    return 0;
}

void LoginThrottle::refund(const std::string &name, const std::string &address, TimePoint now)
{
    of_address_.refund(address, now);
    of_both_.refund(both(name, address), now);
    of_name_.refund(name, now);
}

void LoginThrottle::sweep(TimePoint now)
{
    of_address_.sweep(now);
    of_both_.sweep(now);
    of_name_.sweep(now);
}

} // namespace backfill::web

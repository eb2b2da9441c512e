/* throttle.hpp - how often logins may fail: from one address, with one name from one address, and
 * with one name in all. */
#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>

namespace backfill::web
{

/* A bucket of tries for each key, which fills up again with time. Keys with a full bucket are
 * forgotten, and of the others no more than `most` are kept. */
class Throttle
{
  public:
    using TimePoint = std::chrono::steady_clock::time_point;

    Throttle(double tries, std::chrono::seconds refill, std::size_t most)
        : tries_(tries), refill_(refill), most_(most)
    {
    }

    /* Takes a try; or returns how many seconds to wait for one, with 0 for a try that was taken. */
    int take(std::string_view key, TimePoint now);
    /* Gives it back: the login was a success. */
    void refund(std::string_view key, TimePoint now);
    /* Forgets keys with a full bucket. */
    void sweep(TimePoint now);

    std::size_t size() const { return buckets_.size(); }

  private:
    struct Bucket {
        double left;
        TimePoint at;
    };
    double tries_;
    std::chrono::seconds refill_; /* of one try */
    std::size_t most_;
    std::map<std::string, Bucket, std::less<>> buckets_;

    double left_of(const Bucket &bucket, TimePoint now) const;
    void forget_some(TimePoint now);
};

/* The tries of a login. A name has few from each address, so that one client cannot keep the role
 * out everywhere, and many in all, so that many clients cannot guess for ever. */
class LoginThrottle
{
  public:
    using TimePoint = Throttle::TimePoint;

    /* Takes a try; or returns how many seconds to wait for one, with 0 for a try that was taken. */
    int take(const std::string &name, const std::string &address, TimePoint now);
    /* Gives it back: the login was a success, or nothing has judged it. */
    void refund(const std::string &name, const std::string &address, TimePoint now);
    void sweep(TimePoint now);
    std::size_t size() const { return of_address_.size() + of_both_.size() + of_name_.size(); }

  private:
    static constexpr std::size_t kMostKeys = 10000;
    Throttle of_address_{20, std::chrono::seconds(3), kMostKeys};
    Throttle of_both_{10, std::chrono::seconds(6), kMostKeys};
    Throttle of_name_{1000, std::chrono::seconds(1), kMostKeys};
};

} // namespace backfill::web

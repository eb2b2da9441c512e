/* A consumer of backfill jobs in C++, with libpqxx.
 *
 * It claims up to CONCURRENCY jobs at a time, keeps their leases while they run, and stores each
 * result in the transaction that completes the job. Where the server is, libpq's variables say
 * (PGHOST, PGDATABASE, ...). SIGTERM or SIGINT ends it: it claims no more, gives running jobs
 * GRACE seconds to end, and hands back the rest. See ../README.md.
 *
 * Each job runs in a thread of its own. Only the main thread speaks to the server, over one
 * connection; it sleeps in poll() until the server, a thread or a signal has something for it. */
#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <poll.h>
#include <pqxx/pqxx>
#include <set>
#include <sstream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <unistd.h>
#include <variant>
#include <vector>

namespace
{

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

std::string setting(const char *name, const std::string &default_value)
{
    const char *value = std::getenv(name);
    return value != nullptr ? value : default_value;
}

std::string host_and_pid()
{
    std::array<char, 256> host{};
    gethostname(host.data(), host.size() - 1);
    return host.data() + ("-" + std::to_string(getpid()));
}

const std::string worker = setting("WORKER", host_and_pid());
const std::size_t concurrency = std::stoul(setting("CONCURRENCY", "4"));
const Seconds lease{std::stod(setting("LEASE", "60"))};
const Seconds grace{std::stod(setting("GRACE", "20"))};
/* Claims at least so often, notified or not. */
const Seconds fallback{std::stod(setting("FALLBACK", "30"))};

void say(const std::string &text)
{
    std::cerr << worker + ": " + text + "\n"; /* one write for a line */
}

/* --- The work: replace this with your own. ------------------------------------------------ */

/* Of a result; versions of libpqxx have different names for it. */
using Row = std::decay_t<decltype(*std::declval<const pqxx::result &>().begin())>;

struct Job {
    long long id;
    long long token;
    std::string task;
    int attempt;
    int max_attempts;
    /* Of the payload; the server takes it apart. Text: what is wrong in it must fail the job, not
     * the claim. */
    std::optional<std::string> text;
    std::string seconds;
    std::string fails;
    std::string busy_until;
};

struct Done {
    std::string result;
};
struct Failed {
    std::string error;
    bool permanent; /* the job can never succeed; otherwise the text decides */
};
/* To be tried again after some seconds; this costs no attempt. */
struct Later {
    double seconds;
};
struct Stopped {
};
using Outcome = std::variant<Done, Failed, Later, Stopped>;

/* Sleeps, unless it is stopped. */
bool sleep_for(double seconds, const std::stop_token &stop)
{
    std::mutex mutex;
    std::condition_variable_any never;
    std::unique_lock lock(mutex);
    never.wait_for(lock, stop, Seconds(seconds), [] { return false; });
    return !stop.stop_requested();
}

std::string count_words(const std::string &text)
{
    std::istringstream words(text);
    return std::to_string(std::distance(std::istream_iterator<std::string>(words), {}));
}

std::string shout(std::string text)
{
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    return text;
}

const std::map<std::string, std::string (*)(std::string)> handlers = {
    {"count_words", [](std::string text) { return count_words(text); }},
    {"shout", shout},
};

/* Behaves as the payload says, in place of an outside service. */
Outcome pretend(const Job &job, const std::stop_token &stop)
{
    const Seconds now = std::chrono::system_clock::now().time_since_epoch();
    if (const double busy = std::stod(job.busy_until) - now.count(); busy > 0)
        return Later{busy};
    if (!sleep_for(std::stod(job.seconds), stop))
        return Stopped{};
    if (job.attempt <= std::stoi(job.fails))
        return Failed{"connection reset by peer", false};
    if (!job.text)
        return Failed{"the payload has no text", true};
    return Done{handlers.at(job.task)(*job.text)};
}

Outcome run(const Job &job, const std::stop_token &stop)
{
    try {
        return pretend(job, stop);
    } catch (const std::exception &error) {
        return Failed{error.what(), false};
    }
}

/* --- What wakes the main thread ------------------------------------------------------------ */

/* A byte in the pipe: a signal handler has set a flag, or a thread has handed in an outcome. */
int wake_pipe[2];
volatile std::sig_atomic_t stop_requested = 0;

void wake()
{
    const char byte = 0;
    (void) !write(wake_pipe[1], &byte, 1); /* a full pipe wakes as well */
}

extern "C" void on_signal(int)
{
    const int saved_errno = errno;
    stop_requested = 1;
    wake();
    errno = saved_errno;
}

void listen_to_signals()
{
    if (pipe2(wake_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        throw std::runtime_error("could not make a pipe");
    struct sigaction action = {};
    action.sa_handler = on_signal;
    sigaction(SIGTERM, &action, nullptr);
    sigaction(SIGINT, &action, nullptr);
}

/* --- The connection ------------------------------------------------------------------------- */

class Notified : public pqxx::notification_receiver
{
  public:
    explicit Notified(pqxx::connection &connection)
        : pqxx::notification_receiver(connection, "backfill")
    {
    }
    void operator()(const std::string &, int) override { happened = true; }
    bool happened = true; /* earlier notifications were missed */
};

/* A connection that listens, made anew after it was lost, not too often. */
class Database
{
  public:
    /* Runs a function that gets a transaction; false if the server did not answer. What was sent
     * may have been carried out all the same. To send it again does no harm: a repeated claim gets
     * other jobs, and those of the first one are free when their lease is over; a job that is
     * completed already is just not completed again. */
    template <class F> bool with_transaction(F &&f)
    {
        try {
            if (!connection_)
                return false;
            pqxx::nontransaction transaction(*connection_);
            f(transaction);
            return true;
        } catch (const pqxx::broken_connection &error) {
            lose(error.what());
        } catch (const pqxx::sql_error &error) {
            if (connection_ && connection_->is_open() && !is_temporary(error.sqlstate()))
                throw;
            lose(error.what());
        }
        return false;
    }

    /* Takes in what has arrived; true if a notification was among it. */
    bool take_notifications()
    {
        try {
            if (connection_)
                connection_->get_notifs();
        } catch (const pqxx::failure &error) {
            lose(error.what());
        }
        return notified_ && std::exchange(notified_->happened, false);
    }

    int socket() const { return connection_ ? connection_->sock() : -1; }

    /* When to try to connect again, if there is no connection. */
    std::optional<Clock::time_point> retry_at() const
    {
        return connection_ ? std::nullopt : std::optional(retry_at_);
    }

    void connect_if_due()
    {
        if (connection_ || Clock::now() < retry_at_)
            return;
        try {
            connection_ = std::make_unique<pqxx::connection>("client_encoding=UTF8 application_name=" + quoted(worker));
            notified_ = std::make_unique<Notified>(*connection_);
            delay_ = Seconds(0.1);
            say("listens");
        } catch (const pqxx::failure &error) {
            lose(error.what());
        }
    }

  private:
    /* For a connection string. */
    static std::string quoted(const std::string &value)
    {
        std::string result = "'";
        for (const char c : value)
            result += c == '\'' || c == '\\' ? std::string{'\\', c} : std::string{c};
        return result + "'";
    }

    void lose(const std::string &why)
    {
        say("the server does not answer: " + why.substr(0, why.find('\n')));
        notified_.reset();
        connection_.reset();
        retry_at_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(delay_);
        delay_ = std::min(2 * delay_, Seconds(5));
    }

    static bool is_temporary(std::string_view sqlstate)
    {
        static const std::set<std::string_view> classes{"08", "40", "53", "57", "58"};
        return classes.contains(sqlstate.substr(0, 2));
    }

    std::unique_ptr<pqxx::connection> connection_;
    std::unique_ptr<Notified> notified_;
    Clock::time_point retry_at_ = Clock::now();
    Seconds delay_{0.1};
};

/* --- The consumer ---------------------------------------------------------------------------- */

class Consumer
{
  public:
    int run()
    {
        listen_to_signals();
        next_heartbeat_ = Clock::now() + period(lease / 3);
        std::optional<Clock::time_point> deadline; /* of an orderly end */
        for (;;) {
            if (stop_requested && !deadline) {
                deadline = Clock::now() + period(grace);
                if (!running_.empty())
                    say("waits for " + std::to_string(running_.size()) + " jobs");
            }
            if (deadline && Clock::now() >= *deadline)
                release_running();
            database_.connect_if_due();
            send_answers();
            if (Clock::now() >= next_heartbeat_)
                keep_leases();
            if (deadline && running_.empty())
                break;
            if (deadline && Clock::now() >= *deadline + kLastMoments) {
                say("ends without an answer"); /* the leases will run out */
                std::_Exit(1); /* nor is there an end to wait for of threads that do not stop */
            }
            if (!deadline && claim_due_)
                claim();
            wait(deadline);
        }
        say("ends");
        return 0;
    }

  private:
    /* A job and its token: we may claim a job again that we have lost, before we know. */
    using Key = std::pair<long long, long long>;
    struct Running {
        Job job;
        std::optional<Outcome> outcome; /* its thread has ended, the server does not know yet */
        bool dropped = false;
        std::jthread thread; /* last: it ends before the rest goes */
    };

    /* To hand back jobs. */
    static constexpr std::chrono::seconds kLastMoments{5};

    static Clock::duration period(Seconds seconds)
    {
        return std::chrono::duration_cast<Clock::duration>(seconds);
    }

    void claim()
    {
        if (running_.size() >= concurrency)
            return; /* the end of a job will bring us back */
        claim_due_ = !database_.with_transaction([&](pqxx::transaction_base &transaction) {
            const pqxx::result rows = transaction.exec_params(
                "SELECT id, claim_token, task_identifier, attempt, max_attempts, payload->>'text',"
                "       coalesce(payload->>'seconds', '0'), coalesce(payload->>'fails', '0'),"
                "       coalesce(payload->>'busy_until', '0')"
                "  FROM backfill.claim_jobs($1, tasks => string_to_array($2, ','), max_jobs => $3,"
                "                           lease => make_interval(secs => $4))",
                worker, task_list(), static_cast<int>(concurrency - running_.size()),
                lease.count());
            for (const auto &row : rows)
                start(row);
        });
        next_claim_ = Clock::now() + period(fallback);
    }

    static std::string task_list()
    {
        std::string list;
        for (const auto &[task, handler] : handlers)
            list += (list.empty() ? "" : ",") + task;
        return list;
    }

    void start(const Row &row)
    {
        const Key key{row[0].as<long long>(), row[1].as<long long>()};
        Running &running = running_[key];
        running.job = {key.first,
                       key.second,
                       row[2].as<std::string>(),
                       row[3].as<int>(),
                       row[4].as<int>(),
                       row[5].is_null() ? std::nullopt : std::optional(row[5].as<std::string>()),
                       row[6].as<std::string>(),
                       row[7].as<std::string>(),
                       row[8].as<std::string>()};
        say("job " + std::to_string(running.job.id) + ": begins " + running.job.task +
            ", attempt " + std::to_string(running.job.attempt) + " of " +
            std::to_string(running.job.max_attempts));
        running.thread = std::jthread([this, key, job = running.job](const std::stop_token &stop) {
            Outcome outcome = ::run(job, stop);
            {
                const std::lock_guard lock(mutex_);
                outcomes_.emplace_back(key, std::move(outcome));
            }
            wake();
        });
    }

    /* Tells the server of all jobs that have ended; those that it does not hear of stay. */
    void send_answers()
    {
        {
            const std::lock_guard lock(mutex_);
            for (auto &[key, outcome] : outcomes_)
                running_.at(key).outcome = std::move(outcome);
            outcomes_.clear();
        }
        for (auto it = running_.begin(); it != running_.end();) {
            const Running &running = it->second;
            if (!running.outcome) {
                ++it;
                continue;
            }
            std::string answer;
            if (running.dropped)
                answer = "dropped, its lease is over";
            else if (!database_.with_transaction([&](pqxx::transaction_base &transaction) {
                         answer = std::visit(
                             [&](const auto &outcome) {
                                 return tell(transaction, running.job, outcome);
                             },
                             *running.outcome);
                     }))
                return;
            say("job " + std::to_string(running.job.id) + ": " + answer);
            it = running_.erase(it);
            claim_due_ = true;
        }
    }

    /* No row comes back if the claim does not have the job any more. */
    static std::string name(const pqxx::result &rows, const std::string &outcome)
    {
        return rows.empty() ? "was not ours any more" : outcome;
    }
    static std::string tell(pqxx::transaction_base &transaction, const Job &job, const Done &done)
    {
        return name(transaction.exec_params(
                        "INSERT INTO examples.result (job_id, worker, result)"
                        " SELECT id, $3, $4 FROM backfill.complete_jobs(ARRAY[$1::bigint], $2) id"
                        " RETURNING job_id",
                        job.id, job.token, worker, done.result),
                    "completed");
    }
    static std::string tell(pqxx::transaction_base &transaction, const Job &job,
                            const Failed &failed)
    {
        const pqxx::result rows = transaction.exec_params(
            "SELECT backfill.fail_job($1, $2, $3, CASE WHEN $4 THEN true END)", job.id, job.token,
            failed.error, failed.permanent);
        return "failed (" + rows[0][0].as<std::string>() + "): " + failed.error;
    }
    static std::string tell(pqxx::transaction_base &transaction, const Job &job, const Later &later)
    {
        return name(transaction.exec_params(
                        "SELECT true WHERE backfill.snooze_job($1, $2, make_interval(secs => $3))",
                        job.id, job.token, later.seconds),
                    "snoozed for " + std::to_string(later.seconds) + " s");
    }
    static std::string tell(pqxx::transaction_base &transaction, const Job &job, const Stopped &)
    {
        return name(
            transaction.exec_params("SELECT * FROM backfill.release_jobs(ARRAY[$1::bigint], $2)",
                                    job.id, job.token),
            "released");
    }

    /* Sends heartbeats, three in the time of a lease, and drops the jobs that are lost. */
    void keep_leases()
    {
        std::set<long long> tokens;
        for (const auto &[key, running] : running_)
            if (!running.dropped)
                tokens.insert(running.job.token);
        for (const long long token : tokens) {
            std::set<long long> held;
            if (!database_.with_transaction([&](pqxx::transaction_base &transaction) {
                    for (const auto &row : transaction.exec_params(
                             "SELECT * FROM backfill.heartbeat($1, make_interval(secs => $2))",
                             token, lease.count()))
                        held.insert(row[0].as<long long>());
                }))
                return; /* it is due again as soon as the server answers */
            for (auto &[key, running] : running_) {
                if (running.job.token == token && !held.contains(running.job.id)) {
                    running.dropped = true;
                    running.thread.request_stop();
                }
            }
        }
        next_heartbeat_ = Clock::now() + period(lease / 3);
    }

    void release_running()
    {
        for (auto &[key, running] : running_)
            running.thread.request_stop();
    }

    /* Until something happens or is due. */
    void wait(std::optional<Clock::time_point> deadline)
    {
        auto until = next_heartbeat_;
        if (deadline)
            until =
                std::min(until, Clock::now() < *deadline ? *deadline : *deadline + kLastMoments);
        else if (running_.size() < concurrency)
            until = std::min(until, next_claim_);
        if (const auto retry_at = database_.retry_at())
            until = *retry_at; /* nothing else can be done */
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
        pollfd sources[] = {{wake_pipe[0], POLLIN, 0}, {database_.socket(), POLLIN, 0}};
        (void) poll(sources, 2, static_cast<int>(std::clamp<long long>(left, 0, 3600 * 1000)));

        std::array<char, 256> bytes;
        while (read(wake_pipe[0], bytes.data(), bytes.size()) > 0) {
        }
        if (database_.take_notifications() || Clock::now() >= next_claim_ || database_.retry_at())
            claim_due_ = true;
    }

    Database database_;
    bool claim_due_ = true;
    Clock::time_point next_claim_ = Clock::now();
    Clock::time_point next_heartbeat_ = Clock::now();
    std::mutex mutex_; /* guards what the threads hand in */
    std::vector<std::pair<Key, Outcome>> outcomes_;
    std::map<Key, Running> running_; /* from the claim to the answer; its threads end first */
};

} // namespace

int main()
{
    try {
        return Consumer().run();
    } catch (const std::exception &error) {
        say(error.what());
        return 1;
    }
}

/* pg_connection.hpp - a connection to a server of PostgreSQL that never blocks the thread. */
#pragma once

#include "asio.hpp"
#include "bind.hpp"
#include "sql_errors.hpp"

#include <libpq-fe.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace backfill::web
{

using SqlRows = std::vector<SqlValues>;
using SqlResult = std::variant<SqlRows, SqlError>;
/* Keywords of libpq and their values. */
using ConnectionOptions = std::vector<std::pair<std::string, std::string>>;

/* Options as libpq takes them: two arrays that end with NULL. The options must live as long. */
class PqArguments
{
  public:
    explicit PqArguments(const ConnectionOptions &options)
    {
        for (const auto &[keyword, value] : options) {
            keywords_.push_back(keyword.c_str());
            values_.push_back(value.c_str());
        }
        keywords_.push_back(nullptr);
        values_.push_back(nullptr);
    }
    const char *const *keywords() const { return keywords_.data(); }
    const char *const *values() const { return values_.data(); }

  private:
    std::vector<const char *> keywords_;
    std::vector<const char *> values_;
};

class PgConnection
{
  public:
    explicit PgConnection(asio::any_io_executor executor) : executor_(std::move(executor)) {}

    /* Each attempt in its turn, until a server lets us in, or refuses. Names of hosts must have
     * been resolved: libpq would wait for that. */
    Task<std::optional<SqlError>> open(const std::vector<ConnectionOptions> &attempts,
                                       TimePoint deadline);

    /* The rows of the last statement of one, or what went wrong. After the deadline the connection
     * is of no use any more. */
    Task<SqlResult> query(std::string_view sql, const SqlValues &values, TimePoint deadline);

    /* Whether it can be used again: the server has not closed it, and no transaction is open. */
    bool is_usable();

    /* It must not be used again. */
    void give_up() { broken_ = true; }

    /* Whether the server has asked for the password that it was given. If not, any password would
     * have done. */
    bool has_used_password() const;

  private:
    struct Finish {
        void operator()(PGconn *connection) const { PQfinish(connection); }
    };
    asio::any_io_executor executor_;
    std::unique_ptr<PGconn, Finish> connection_;
    bool broken_ = false;

    enum class For { reading, writing };
    Task<std::optional<SqlError>> try_to_open(const ConnectionOptions &options, TimePoint deadline);
    Task<bool> wait(For what, TimePoint deadline);
    Task<bool> flush(TimePoint deadline);
    Task<std::optional<SqlError>> send(std::string_view sql, const SqlValues &values,
                                       TimePoint deadline);
    SqlError lost(std::string_view sqlstate, std::string message);
};

} // namespace backfill::web

/* error.hpp - errors while C++ frames are on the stack.
 *
 * Two exceptions: pg::Error is a PostgreSQL error caught by pg::call(), whole;
 * Failure is an error of our own, thrown by C++ code. Both become an ordinary
 * ereport(ERROR) at the boundary (guard.hpp). ErrorInfo is the plain-value form in
 * which a job's error is classified and stored. */
#pragma once

#include "backfill/core/error_info.hpp"
#include "backfill/pg/pg.hpp"

namespace backfill
{

/* An error raised by our own C++ code, in PostgreSQL's terms. */
struct Failure {
    int sqlstate;
    std::string message;
    std::string detail;
    std::string hint;
};

[[noreturn]] inline void fail(int sqlstate, std::string message, std::string detail = {},
                              std::string hint = {})
{
    throw Failure{sqlstate, std::move(message), std::move(detail), std::move(hint)};
}

namespace pg
{

/* A SQLSTATE (core/sqlstates.hpp) as fail() wants it. */
constexpr int error_code(const char (&state)[6])
{
    return MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
}

/* A PostgreSQL error on its way through C++ frames. It only points at the ErrorData,
 * which lives in the error store until the transaction ends. A function that
 * catches one must end the (sub)transaction it came from. */
class Error
{
  public:
    explicit Error(ErrorData *data) : data_(data) {}
    ErrorData *data() const { return data_; }

  private:
    ErrorData *data_;
};

/* What is kept of an error's text, whole characters only (core::kMaxErrorText). */
std::string kept_error_text(std::string_view text);
core::ErrorInfo to_error_info(const Error &error);
core::ErrorInfo to_error_info(const Failure &failure);

} // namespace pg
} // namespace backfill

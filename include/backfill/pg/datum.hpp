/* datum.hpp - SQL values to C++ values and back.
 *
 * Views point into palloc'd memory of the current context; they are good until that
 * context is reset. Everything here is guarded: callers may hold C++ objects. */
#pragma once

#include "backfill/pg/guard.hpp"

namespace backfill::pg
{

/* text or varchar, detoasted. */
std::string_view to_view(Datum value);
inline std::string to_string(Datum value)
{
    return std::string(to_view(value));
}
Datum from_text(std::string_view value);
Datum from_texts(std::span<const std::string> values);
/* For messages: a name, and the beginning of a value that may be long. */
std::string in_quotes(std::string_view value);
std::string shortened(std::string_view value);
/* At most max_bytes bytes of the text, cut between two characters. */
std::string_view clipped(std::string_view text, std::size_t max_bytes);
/* The length of an interval, whatever it is, to compare with a limit. */
double approximate_days(const Interval &interval);
/* An interval in microseconds; a month counts as 30 days, as extract(epoch) has it.
 * What does not fit becomes the least or the greatest number. */
int64 to_microseconds(const Interval &interval);
Interval *from_microseconds(int64 microseconds);
/* As messages show it. */
std::string to_text(const Interval &interval);
/* A role's name; empty if there is no such role. */
std::string role_name(Oid role);

/* The arguments of an SQL-callable function. */
class Arguments
{
  public:
    explicit Arguments(FunctionCallInfo fcinfo) : fcinfo_(fcinfo) {}

    bool is_null(int n) const { return n >= fcinfo_->nargs || fcinfo_->args[n].isnull; }
    Datum datum(int n) const { return fcinfo_->args[n].value; }

    std::optional<std::string_view> text(int n) const
    {
        return is_null(n) ? std::nullopt : std::optional(to_view(datum(n)));
    }
    std::optional<int32> int4(int n) const
    {
        return is_null(n) ? std::nullopt : std::optional(DatumGetInt32(datum(n)));
    }
    std::optional<int64> int8(int n) const
    {
        return is_null(n) ? std::nullopt : std::optional(DatumGetInt64(datum(n)));
    }
    std::optional<double> float8(int n) const
    {
        return is_null(n) ? std::nullopt : std::optional(DatumGetFloat8(datum(n)));
    }
    std::optional<TimestampTz> timestamptz(int n) const
    {
        return is_null(n) ? std::nullopt : std::optional(DatumGetTimestampTz(datum(n)));
    }
    const Interval *interval(int n) const
    {
        return is_null(n) ? nullptr : DatumGetIntervalP(datum(n));
    }
    std::optional<Oid> oid(int n) const
    {
        return is_null(n) ? std::nullopt : std::optional(DatumGetObjectId(datum(n)));
    }
    /* The elements of an array, NULLs included. */
    struct Elements {
        Datum *values;
        bool *nulls;
        int count;
    };
    std::optional<Elements> array(int n, Oid element_type) const;
    /* The elements of a bigint[] that are not NULL. */
    std::optional<std::vector<int64>> int8_array(int n) const;

  private:
    FunctionCallInfo fcinfo_;
};

/* The row of a function or procedure that returns one, as it is declared. */
Datum make_row(FunctionCallInfo fcinfo, const Datum *values, const bool *nulls);

/* Rows for a set-returning function, materialized. */
class ResultSet
{
  public:
    /* Expects result rows as declared; raises if the caller cannot take a set. */
    explicit ResultSet(FunctionCallInfo fcinfo);
    void add(const Datum *values, const bool *nulls);
    Datum finish() const { return static_cast<Datum>(0); }

  private:
    ReturnSetInfo *result_;
};

} // namespace backfill::pg

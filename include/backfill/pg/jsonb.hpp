/* jsonb.hpp - build and read small jsonb values from C++. */
#pragma once

#include "backfill/core/error_info.hpp"
#include "backfill/pg/guard.hpp"

namespace backfill::pg
{

/* Builds one object, member by member. Strings are copied when finish() is called. */
class JsonbObject
{
  public:
    JsonbObject();
    /* Left out if empty. */
    void add_text(std::string_view key, std::string_view value);
    void add_integer(std::string_view key, int64 value);
    /* A member that is itself jsonb. */
    void add_jsonb(std::string_view key, Datum value);
    void add_timestamp(std::string_view key, TimestampTz value);
    Datum finish();

  private:
    void add_key(std::string_view key);
    JsonbParseState *state_ = nullptr;
};

/* What last_error keeps of an error. */
Datum error_to_jsonb(const core::ErrorInfo &error);

bool is_object(Datum value);
/* A value as JSON text, as messages show it. */
std::string to_json_text(Datum value);

/* The object with {"omitted_bytes": n} in the place of members that have more than this. */
Datum without_large_members(Datum object, Size largest);

/* A member of an object as text, a string without its quotes; nothing if it is missing or
 * null, or if the value is no object. */
std::optional<std::string> get_text(Datum object, const char *key);
/* A member as jsonb; nothing if it is missing. */
std::optional<Datum> get_jsonb(Datum object, const char *key);

} // namespace backfill::pg

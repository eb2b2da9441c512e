/* json_fields.hpp - the fields of a JSON object, each as text that the database can read. Numbers
 * keep the digits that they came with, so that a payload is stored as the client wrote it. */
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace backfill::web
{

struct JsonValue {
    enum class Kind { null, boolean, integer, number, string, array, object };
    Kind kind;
    /* Of a string its characters, of all others their JSON. */
    std::string text;
};

/* A JSON value of whatever kind as JSON. */
std::string to_json(const JsonValue &value);

using JsonFields = std::map<std::string, JsonValue, std::less<>>;

/* The fields; or what is wrong with the text. */
std::variant<JsonFields, std::string> parse_object(std::string_view text);

/* The elements of an array; nothing if it is none. */
std::optional<std::vector<JsonValue>> parse_array(std::string_view text);

} // namespace backfill::web

/* bind.hpp - from a request to the values of its route's statement. Whatever has the wrong type is
 * refused here, with the field's name; the database checks the rest. */
#pragma once

#include "json_fields.hpp"
#include "reply.hpp"
#include "route.hpp"
#include "url.hpp"

#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace backfill::web
{

using SqlValues = std::vector<std::optional<std::string>>;

/* The values in the order of the route's parameters; nothing for those that were left out. */
std::variant<SqlValues, Problem> bind_values(const Route &route,
                                             const std::vector<std::string> &path_values,
                                             const Target &target, std::string_view body);

/* A value as the database reads it, or what it should have been. */
struct Converted {
    std::optional<std::string> value;
    std::string expected;
};
Converted convert_text(Type type, std::string_view text);
Converted convert_json(Type type, const JsonValue &value);

} // namespace backfill::web

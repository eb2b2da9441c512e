/* bind.cpp - see bind.hpp. */
#include "bind.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>

namespace backfill::web
{

namespace
{

using JsonKind = JsonValue::Kind;

/* Names that every route takes besides its own. */
constexpr std::string_view kDatabase = "database";

template <class Int> bool is_integer(std::string_view text)
{
    Int value;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

/* No infinity, which is no number of seconds. */
bool is_number(std::string_view text)
{
    double value;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size() && std::isfinite(value);
}

/* Reads a text from its beginning. */
class Scanner
{
  public:
    explicit Scanner(std::string_view text) : rest_(text) {}

    bool is_at_end() const { return rest_.empty(); }
    /* One of these characters. */
    bool next(std::string_view characters)
    {
        if (rest_.empty() || characters.find(rest_.front()) == std::string_view::npos)
            return false;
        rest_.remove_prefix(1);
        return true;
    }
    /* As many digits as there are, if their number is between these. */
    bool digits(int least, int most)
    {
        int count = 0;
        while (next("0123456789"))
            count++;
        return count >= least && count <= most;
    }

  private:
    std::string_view rest_;
};

/* Z, +02, +0200, +02:00; or nothing. */
bool is_zone(Scanner &scanner)
{
    if (scanner.is_at_end() || scanner.next("Z"))
        return scanner.is_at_end();
    scanner.next(" ");
    if (!scanner.next("+-") || !scanner.digits(2, 4))
        return false;
    return scanner.is_at_end() ||
           (scanner.next(":") && scanner.digits(2, 2) && scanner.is_at_end());
}

/* ISO 8601, the date alone or with a time. */
bool is_timestamp(std::string_view text)
{
    Scanner scanner(text);
    const bool has_date = scanner.digits(4, 6) && scanner.next("-") && scanner.digits(2, 2) &&
                          scanner.next("-") && scanner.digits(2, 2);
    if (!has_date || scanner.is_at_end())
        return has_date;
    if (!scanner.next("T ") || !scanner.digits(2, 2) || !scanner.next(":") || !scanner.digits(2, 2))
        return false;
    if (scanner.next(":") && !scanner.digits(2, 2))
        return false;
    if (scanner.next(".") && !scanner.digits(1, 9))
        return false;
    return is_zone(scanner);
}

std::string_view description_of(Type type)
{
    switch (type) {
    case Type::integer:
        return "an integer of 32 bits";
    case Type::bigint:
        return "an integer of 64 bits";
    case Type::number:
        return "a number";
    case Type::boolean:
        return "true or false";
    case Type::timestamp:
        return "a time in ISO 8601";
    case Type::json:
        return "JSON";
    case Type::ids:
        return "an array of at most 10000 ids";
    default:
        return "a text without zero bytes";
    }
}

Converted wrong(Type type)
{
    return {{}, std::string(description_of(type))};
}

Converted convert_ids(const JsonValue &value)
{
    const auto elements =
        value.kind == JsonValue::Kind::array ? parse_array(value.text) : std::nullopt;
    if (!elements || elements->size() > kMostAtOnce)
        return wrong(Type::ids);
    std::string list = "{";
    for (const JsonValue &element : *elements) {
        const bool is_id =
            element.kind == JsonValue::Kind::integer || element.kind == JsonValue::Kind::string;
        if (!is_id || !is_integer<std::int64_t>(element.text))
            return wrong(Type::ids);
        list.append(list.size() == 1 ? "" : ",").append(element.text);
    }
    return {list + "}", {}};
}

Problem field_problem(int status, std::string_view name, std::string_view what)
{
    Problem result{status, status == 400 ? "invalid_value" : "invalid_field", {}, {}, {}};
    result.message = "field \"" + std::string(name) + "\" " + std::string(what);
    return result;
}

/* The fields that a body may have. */
bool is_known(const Route &route, From from, std::string_view name)
{
    if (from == From::body && name == "filter" && route.acts_on_many())
        return true;
    if (from == From::query && name == kDatabase)
        return true;
    return std::any_of(route.parameters.begin(), route.parameters.end(),
                       [&](const Parameter &parameter) {
                           return parameter.from == from && parameter.name == name;
                       });
}

std::optional<Problem> find_unknown(const Route &route, From from, const JsonFields &fields)
{
    for (const auto &[name, value] : fields)
        if (!is_known(route, from, name))
            return field_problem(422, name, "is not known here");
    return {};
}

/* What the values are taken from. */
struct Sources {
    const std::vector<std::string> &path_values;
    const Target &target;
    JsonFields body;
    JsonFields filter;
};

std::optional<Problem> read_body(const Route &route, std::string_view text, Sources &sources)
{
    if (trim(text).empty())
        return {};
    auto parsed = parse_object(text);
    if (const auto *what = std::get_if<std::string>(&parsed))
        return Problem{400, "invalid_json", "the body cannot be read: " + *what, {}, {}};
    sources.body = std::get<JsonFields>(std::move(parsed));
    return find_unknown(route, From::body, sources.body);
}

/* Exactly one of ids and filter: a filter that was forgotten must not mean everything. */
std::optional<Problem> read_filter(const Route &route, Sources &sources)
{
    const auto filter = sources.body.find("filter");
    const bool has_filter =
        filter != sources.body.end() && filter->second.kind != JsonValue::Kind::null;
    const auto ids = sources.body.find("ids");
    const bool has_ids = ids != sources.body.end() && ids->second.kind != JsonValue::Kind::null;
    if (has_filter == has_ids)
        return Problem{422, "invalid_field", "give either ids or filter", {}, {}};
    if (!has_filter)
        return {};
    if (filter->second.kind != JsonValue::Kind::object)
        return field_problem(422, "filter", "must be an object");
    auto parsed = parse_object(filter->second.text);
    if (const auto *what = std::get_if<std::string>(&parsed))
        return Problem{400, "invalid_json", "the filter cannot be read: " + *what, {}, {}};
    sources.filter = std::get<JsonFields>(std::move(parsed));
    return find_unknown(route, From::filter, sources.filter);
}

/* The value of a parameter, or nothing if it was left out. JSON null leaves out, too, but for a
 * payload, which may be null. */
std::variant<std::optional<std::string>, Problem>
value_of(const Parameter &parameter, const Sources &sources, std::size_t &next_of_path)
{
    std::optional<Converted> converted;
    int status = 400;
    if (parameter.from == From::path) {
        converted = convert_text(parameter.type, sources.path_values.at(next_of_path++));
    } else if (parameter.from == From::query) {
        const auto text = sources.target.find(parameter.name);
        /* An empty text is a value: a filter for what has none. */
        if (text && (!text->empty() || parameter.required || parameter.type == Type::text))
            converted = convert_text(parameter.type, *text);
    } else {
        const JsonFields &fields = parameter.from == From::body ? sources.body : sources.filter;
        const auto field = fields.find(parameter.name);
        status = 422;
        if (field != fields.end() &&
            (field->second.kind != JsonValue::Kind::null || parameter.type == Type::json))
            converted = convert_json(parameter.type, field->second);
    }
    if (!converted) {
        if (parameter.required)
            return field_problem(status, parameter.name, "is missing");
        return std::optional<std::string>();
    }
    if (!converted->value)
        return field_problem(status, parameter.name, "must be " + converted->expected);
    return std::move(converted->value);
}

/* How many a call acts on, between the limits. */
std::optional<Problem> check_max(const Route &route, SqlValues &values)
{
    for (std::size_t i = 0; i < route.parameters.size(); i++) {
        if (route.parameters[i].name != "max")
            continue;
        if (!values[i])
            values[i] = std::to_string(kMostAtOnce);
        const long most = std::stol(*values[i]);
        if (most < 1 || most > kMostAtOnce)
            return field_problem(422, "max", "must be between 1 and 10000");
    }
    return {};
}

} // namespace

Converted convert_text(Type type, std::string_view text)
{
    bool fits = true;
    if (type == Type::integer)
        fits = is_integer<std::int32_t>(text);
    else if (type == Type::bigint)
        fits = is_integer<std::int64_t>(text);
    else if (type == Type::number)
        fits = is_number(text);
    else if (type == Type::boolean)
        fits = text == "true" || text == "false";
    else if (type == Type::timestamp)
        fits = is_timestamp(text);
    else if (type == Type::ids)
        fits = false;
    if (!fits || !is_text(text))
        return wrong(type);
    return {std::string(text), {}};
}

Converted convert_json(Type type, const JsonValue &value)
{
    if (type == Type::json)
        return {to_json(value), {}};
    if (type == Type::ids)
        return convert_ids(value);
    const bool is_number = value.kind == JsonKind::integer || value.kind == JsonKind::number;
    bool fits = false;
    if (type == Type::boolean)
        fits = value.kind == JsonKind::boolean;
    else if (type == Type::number)
        fits = is_number;
    else if (type == Type::integer)
        fits = value.kind == JsonKind::integer;
    else if (type == Type::bigint)
        fits = value.kind == JsonKind::integer || value.kind == JsonKind::string;
    else
        fits = value.kind == JsonKind::string;
    return fits ? convert_text(type, value.text) : wrong(type);
}

std::variant<SqlValues, Problem> bind_values(const Route &route,
                                             const std::vector<std::string> &path_values,
                                             const Target &target, std::string_view body)
{
    for (const auto &[name, value] : target.query)
        if (!is_known(route, From::query, name))
            return field_problem(400, name, "is not known here");
    Sources sources{path_values, target, {}, {}};
    if (auto wrong = read_body(route, body, sources))
        return *wrong;
    if (route.acts_on_many())
        if (auto wrong = read_filter(route, sources))
            return *wrong;
    SqlValues values;
    std::size_t next_of_path = 0;
    for (const Parameter &parameter : route.parameters) {
        auto value = value_of(parameter, sources, next_of_path);
        if (auto *wrong = std::get_if<Problem>(&value))
            return std::move(*wrong);
        values.push_back(std::get<std::optional<std::string>>(std::move(value)));
    }
    if (auto wrong = check_max(route, values))
        return *wrong;
    return values;
}

} // namespace backfill::web

/* bind_fuzz.cpp - libFuzzer's driver of what clients send to a route: a query and a body, whose
 * values must come out as text that the database can take, or be refused. */
#include "bind.hpp"
#include "json_fields.hpp"
#include "routes.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <cstdlib>

using namespace backfill::web;

namespace
{

/* What has been read must be the same JSON as what was sent. */
void check_fields(std::string_view body)
{
    const auto parsed = parse_object(body);
    const auto *fields = std::get_if<JsonFields>(&parsed);
    if (fields == nullptr)
        return;
    const auto sent = nlohmann::json::parse(body, nullptr, false);
    if (!sent.is_object() || sent.size() != fields->size())
        std::abort();
    for (const auto &[name, value] : *fields)
        if (!sent.contains(name) ||
            nlohmann::json::parse(to_json(value), nullptr, false) != sent[name])
            std::abort();
}

void check_values(const Route &route, const Target &target, std::string_view body)
{
    std::vector<std::string> path_values;
    for (const Parameter &parameter : route.parameters)
        if (parameter.from == From::path)
            path_values.emplace_back(body.substr(0, 20));
    const auto bound = bind_values(route, path_values, target, body);
    const auto *values = std::get_if<SqlValues>(&bound);
    if (values == nullptr)
        return;
    if (values->size() != route.parameters.size())
        std::abort();
    for (std::size_t i = 0; i < values->size(); i++)
        if ((*values)[i] ? !is_text(*(*values)[i]) : route.parameters[i].required)
            std::abort();
}

} // namespace

/* The first byte chooses the route, a line is the query, the rest is the body. */
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    if (size == 0)
        return 0;
    const std::string_view bytes(reinterpret_cast<const char *>(data + 1), size - 1);
    const std::size_t end = bytes.find('\n');
    const std::string_view query = bytes.substr(0, end);
    const std::string_view body =
        end == std::string_view::npos ? std::string_view() : bytes.substr(end + 1);
    check_fields(body);
    if (const auto target = parse_target("/api/v1/x?" + std::string(query)))
        check_values(all_routes()[data[0] % all_routes().size()], *target, body);
    return 0;
}

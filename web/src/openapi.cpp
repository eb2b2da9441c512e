/* openapi.cpp - see openapi.hpp. */
#include "openapi.hpp"

#include "credentials.hpp"
#include "routes.hpp"
#include "url.hpp"
#include "version.hpp"

#include <nlohmann/json.hpp>

namespace backfill::web
{

namespace
{

using OrderedJson = nlohmann::ordered_json;

OrderedJson schema_of(Type type)
{
    switch (type) {
    case Type::integer:
        return {{"type", "integer"}, {"format", "int32"}};
    case Type::bigint:
        return {{"type", "string"}, {"pattern", "^-?[0-9]{1,19}$"}};
    case Type::number:
        return {{"type", "number"}};
    case Type::boolean:
        return {{"type", "boolean"}};
    case Type::timestamp:
        return {{"type", "string"}, {"format", "date-time"}};
    case Type::json:
        return OrderedJson::object();
    case Type::ids:
        return {{"type", "array"},
                {"maxItems", kMostAtOnce},
                {"items", {{"type", "string"}, {"pattern", "^-?[0-9]{1,19}$"}}}};
    default:
        return {{"type", "string"}};
    }
}

/* "/jobs/:id" as "/jobs/{id}". */
std::string openapi_path(std::string_view path)
{
    std::string text = "/api/v1";
    for (const std::string_view segment : split_path(path))
        text += segment.starts_with(':') ? "/{" + std::string(segment.substr(1)) + "}"
                                         : "/" + std::string(segment);
    return text;
}

OrderedJson parameters_of(const Route &route)
{
    OrderedJson list = OrderedJson::array();
    for (const Parameter &parameter : route.parameters)
        if (parameter.from == From::path || parameter.from == From::query)
            list.push_back({{"name", parameter.name},
                            {"in", parameter.from == From::path ? "path" : "query"},
                            {"required", parameter.required},
                            {"description", parameter.summary},
                            {"schema", schema_of(parameter.type)}});
    if (route.kind == Kind::sql || route.kind == Kind::session || route.kind == Kind::stream)
        list.push_back({{"$ref", "#/components/parameters/database"}});
    return list;
}

OrderedJson object_of(const Route &route, From from)
{
    OrderedJson object = {
        {"type", "object"}, {"additionalProperties", false}, {"properties", OrderedJson::object()}};
    OrderedJson required = OrderedJson::array();
    for (const Parameter &parameter : route.parameters) {
        if (parameter.from != from)
            continue;
        OrderedJson schema = schema_of(parameter.type);
        schema["description"] = parameter.summary;
        object["properties"][std::string(parameter.name)] = schema;
        if (parameter.required)
            required.push_back(parameter.name);
    }
    if (!required.empty())
        object["required"] = required;
    return object;
}

/* Nothing if the route takes no body. */
OrderedJson body_of(const Route &route)
{
    OrderedJson object = object_of(route, From::body);
    if (route.acts_on_many()) {
        object["properties"]["filter"] = object_of(route, From::filter);
        object["oneOf"] = {{{"required", {"ids"}}}, {{"required", {"filter"}}}};
    }
    if (object["properties"].empty())
        return nullptr;
    return {{"required", object.contains("required") || object.contains("oneOf")},
            {"content", {{"application/json", {{"schema", object}}}}}};
}

OrderedJson responses_of(const Route &route)
{
    OrderedJson success = {{"description", "done"}};
    if (route.kind == Kind::stream)
        success["content"] = {{"text/event-stream", OrderedJson::object()}};
    else if (route.success != 204)
        success["content"] = {{"application/json", {{"schema", {{"type", "object"}}}}}};
    return {{std::to_string(route.success), success},
            {"default", {{"$ref", "#/components/responses/Error"}}}};
}

OrderedJson operation_of(const Route &route, std::size_t place)
{
    std::string id(route.id);
    if (place > 0)
        id += "." + std::to_string(place + 1);
    OrderedJson operation = {{"operationId", id}, {"summary", route.summary}};
    operation["tags"] = {std::string(route.id.substr(0, route.id.find('.')))};
    if (OrderedJson parameters = parameters_of(route); !parameters.empty())
        operation["parameters"] = parameters;
    if (OrderedJson body = body_of(route); !body.is_null())
        operation["requestBody"] = body;
    operation["responses"] = responses_of(route);
    if (route.kind == Kind::login || route.kind == Kind::openapi)
        operation["security"] = OrderedJson::array();
    operation["x-backfill-route"] = route.id;
    operation["x-backfill-needs"] = route.needs;
    operation["x-backfill-changes"] = route.changes;
    return operation;
}

OrderedJson components()
{
    const OrderedJson error_schema = {
        {"type", "object"},
        {"required", {"error", "code", "timestamp"}},
        {"properties",
         {{"error", {{"type", "string"}}},
          {"code", {{"type", "string"}}},
          {"timestamp", {{"type", "string"}, {"format", "date-time"}}},
          {"detail", {{"type", {"string", "null"}}}},
          {"hint", {{"type", {"string", "null"}}}}}}};
    return {
        {"schemas", {{"Error", error_schema}}},
        {"parameters",
         {{"database",
           {{"name", "database"},
            {"in", "query"},
            {"required", false},
            {"description", "name of the database; left out: the session's"},
            {"schema", {{"type", "string"}}}}}}},
        {"responses",
         {{"Error",
           {{"description", "what is wrong; code is the SQLSTATE, or a short word"},
            {"content",
             {{"application/json", {{"schema", {{"$ref", "#/components/schemas/Error"}}}}}}}}}}},
        {"securitySchemes",
         {{"session",
           {{"type", "apiKey"},
            {"in", "cookie"},
            {"name", kCookieName},
            {"description", "under TLS its name is " + std::string(kSecureCookieName)}}}}}};
}

} // namespace

namespace
{

std::string make_document()
{
    OrderedJson paths = OrderedJson::object();
    for (const Route &route : all_routes())
        for (std::size_t i = 0; i < route.places.size(); i++)
            paths[openapi_path(route.places[i].path)][lower(name_of(route.places[i].method))] =
                operation_of(route, i);
    const OrderedJson document = {{"openapi", "3.1.0"},
                                  {"info", {{"title", "backfill-web"}, {"version", kVersion}}},
                                  {"servers", {{{"url", "/"}}}},
                                  {"security", {{{"session", OrderedJson::array()}}}},
                                  {"paths", paths},
                                  {"components", components()}};
    return document.dump(2) + "\n";
}

} // namespace

const std::string &openapi_document()
{
    static const std::string document = make_document();
    return document;
}

} // namespace backfill::web

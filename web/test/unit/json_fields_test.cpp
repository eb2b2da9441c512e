/* json_fields_test.cpp - what a client has written comes out as it was written. */
#include "json_fields.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace backfill::web;

namespace
{

JsonFields fields_of(std::string_view text)
{
    auto parsed = parse_object(text);
    REQUIRE(std::holds_alternative<JsonFields>(parsed));
    return std::get<JsonFields>(std::move(parsed));
}

std::string problem_of(std::string_view text)
{
    const auto parsed = parse_object(text);
    const auto *problem = std::get_if<std::string>(&parsed);
    return problem == nullptr ? "" : *problem;
}

} // namespace

TEST_CASE("numbers keep their digits")
{
    const auto fields = fields_of(
        R"({"p": {"a": 12345678901234567890123, "b": [1.10, -0, 1e3, 9223372036854775807]}, "n": 1.50})");
    CHECK(fields.at("p").text ==
          R"({"a":12345678901234567890123,"b":[1.10,0,1e3,9223372036854775807]})");
    CHECK(fields.at("n").text == "1.50");
}

TEST_CASE("nested values come out as the same JSON")
{
    for (const char *nested : {R"({"a":{"b":[{},[],{"c":null}],"d":true},"e":"x\"\\\n\u0001é😀"})",
                               R"([[[1],[2,[3]]],{}])", R"({})", R"([])",
                               R"([{"a":1},{"b":2},"c",null,false])", R"({"k":"","":"v"})"}) {
        const auto fields =
            fields_of(std::string(R"({"before": 1, "v": )") + nested + R"(, "x": [1]})");
        CHECK(nlohmann::json::parse(fields.at("v").text) == nlohmann::json::parse(nested));
        CHECK(fields.at("x").text == "[1]");
    }
}

TEST_CASE("kinds are told apart")
{
    using Kind = JsonValue::Kind;
    const auto fields =
        fields_of(R"({"n":null,"b":true,"i":-5,"d":5.0,"s":"5","a":[5],"o":{"five":5}})");
    CHECK(fields.at("n").kind == Kind::null);
    CHECK(fields.at("b").kind == Kind::boolean);
    CHECK(fields.at("i").kind == Kind::integer);
    CHECK(fields.at("d").kind == Kind::number);
    CHECK(fields.at("s").kind == Kind::string);
    CHECK(fields.at("a").kind == Kind::array);
    CHECK(fields.at("o").kind == Kind::object);
    CHECK(to_json(fields.at("s")) == "\"5\"");
    CHECK(to_json(fields.at("i")) == "-5");
}

TEST_CASE("what is no object is refused")
{
    for (const char *text :
         {"", "[]", "1", "null", "{", "{\"a\":1}x", "{\"a\":}", "{'a':1}", "\"a\"",
          "{\"a\":\"\xff\"}", "{\"a\":\"\\ud800\"}", "{\"a\":1e999}", "{\"a\":NaN}"})
        CHECK_MESSAGE(problem_of(text) != "", text);
    CHECK(problem_of(R"({"a":1,"a":2})") == "field \"a\" is given twice");
    CHECK(problem_of("{\"a\":" + std::string(5000, '[')) == "it is nested deeper than 200 levels");
}

TEST_CASE("an array is its elements")
{
    const auto elements = parse_array(R"([1, "2", [3], {"a":4}])");
    REQUIRE(elements);
    REQUIRE(elements->size() == 4);
    CHECK((*elements)[0].text == "1");
    CHECK((*elements)[1].text == "2");
    CHECK((*elements)[2].text == "[3]");
    CHECK((*elements)[3].text == R"({"a":4})");
    CHECK(!parse_array("{}"));
}

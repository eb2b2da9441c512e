/* json5_test.cpp - JSON5 to JSON. */
#include "backfill/core/json5.hpp"
#include "backfill/core/syntax_error.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace backfill::core;

namespace
{

std::string refusal(const std::string &text)
{
    try {
        return "accepted as " + json5_to_json(text);
    } catch (const SyntaxError &error) {
        return error.message + " " + error.detail;
    }
}

} // namespace

TEST_CASE("JSON stays as it is, without its blanks")
{
    for (const std::string text :
         {"{}", "[]", "{\"a\":1}", "[1,2.5,-3e10,1E+2,0]",
          "{\"a\":{\"b\":[true,false,null,\"x\"]}}", "\"\\u00e4\\n\\\"\\\\\"", "{\"\":\"\"}"})
        CHECK(json5_to_json(text) ==
              (text == "[1,2.5,-3e10,1E+2,0]" ? "[1,2.5,-3e10,1e+2,0]" : text));
    CHECK(json5_to_json(" { \"a\" :\t[ 1 , 2 ] } ") == "{\"a\":[1,2]}");
}

TEST_CASE("keys without quotes, single quotes, trailing commas, comments")
{
    CHECK(json5_to_json("{to: 'a@b.c', n_1: 1, $x: 2, _y: 3,}") ==
          "{\"to\":\"a@b.c\",\"n_1\":1,\"$x\":2,\"_y\":3}");
    CHECK(json5_to_json("{größe: 1}") == "{\"größe\":1}");
    CHECK(json5_to_json("{\\u0061b: 1}") == "{\"\\u0061b\":1}");
    CHECK(json5_to_json("{null: 1, true: 2, Infinity: 3}") ==
          "{\"null\":1,\"true\":2,\"Infinity\":3}");
    CHECK(json5_to_json("{'it\\'s': 'say \"hi\"'}") == "{\"it's\":\"say \\\"hi\\\"\"}");
    CHECK(json5_to_json("[1,[2,],]") == "[1,[2]]");
    CHECK(json5_to_json("{a: 1, /* one, */ b: 2 // two\n}") == "{\"a\":1,\"b\":2}");
    CHECK(json5_to_json("\xEF\xBB\xBF{\xC2\xA0}") == "{}");
}

TEST_CASE("numbers")
{
    CHECK(json5_to_json("[+1, .5, 5., -.5, 0x1F, -0xff, 0XA, 1e3, 5.e-1, +0x10]") ==
          "[1,0.5,5,-0.5,31,-255,10,1e3,5e-1,16]");
    CHECK(json5_to_json("0xFFFFFFFFFFFFFFFF") == "18446744073709551615");
}

TEST_CASE("strings")
{
    CHECK(json5_to_json("'\\x41\\v\\a\\/'") == "\"\\u0041\\u000ba/\"");
    CHECK(json5_to_json("'a\\\nb\\\r\nc'") == "\"abc\"");
    CHECK(json5_to_json("'\t'") == "\"\\u0009\"");
    CHECK(json5_to_json("'\\uD83D\\uDE00'") == "\"\\uD83D\\uDE00\"");
    CHECK(json5_to_json("{\"url\": \"http://x/*y*/\"}") == "{\"url\":\"http://x/*y*/\"}");
}

TEST_CASE("what is no JSON5 is refused, with the place")
{
    CHECK(refusal("{a: }") ==
          "invalid JSON5: a value cannot begin like this At character 5 of the payload.");
    CHECK(refusal("{a 1}") ==
          "invalid JSON5: expected : after a key At character 4 of the payload.");
    CHECK(refusal("{a: Infinity}").find("Infinity cannot be stored as JSON") != std::string::npos);
    CHECK(refusal("{a: -Infinity}").find("cannot be stored as JSON") != std::string::npos);
    CHECK(refusal("{a: NaN}").find("NaN cannot be stored as JSON") != std::string::npos);
    for (const std::string bad : {"",          " ",       "{",         "[",
                                  "{]",        "[}",      "{a}",       "{a:}",
                                  "{,}",       "[,]",     "[1,,2]",    "{a:1,,}",
                                  "{a:1 b:2}", "[1 2]",   "{} x",      "{}{}",
                                  "'",         "'a",      "\"a'",      "'a\nb'",
                                  "'\\",       "'\\u12'", "'\\u12g4'", "'\\xg1'",
                                  "'\\1'",     "'\\01'",  "'\\0'",     "'\\u0000'",
                                  "'\\x00'",   "01",      "00",        "1.2.3",
                                  "1e",        "1e+",     ".",         "+",
                                  "-",         "--1",     "0x",        "0xg",
                                  "1x",        "1_000",   "- 1",       "0x10000000000000000",
                                  "{1: 2}",    "{-a: 1}", "{a-b: 1}",  "{\\x61: 1}",
                                  "tru",       "truee",   "undefined", "/* x",
                                  "#",         "{a: 1}/"}) {
        CAPTURE(bad);
        CHECK(refusal(bad).find("invalid JSON5") == 0);
    }
    CHECK(refusal(std::string(5000, '[')).find("too deeply nested") != std::string::npos);
}

/* url_test.cpp - targets are taken apart before they are decoded, and what is not text is refused.
 */
#include "url.hpp"

#include <doctest/doctest.h>

using namespace backfill::web;

TEST_CASE("a target is a path and parameters")
{
    const auto target = parse_target("/api/v1/queues/a%2Fb?search=x+y&limit=10&&flag#part");
    REQUIRE(target);
    CHECK(target->segments == std::vector<std::string>{"api", "v1", "queues", "a/b"});
    CHECK(target->find("search") == "x y");
    CHECK(target->find("limit") == "10");
    CHECK(target->find("flag") == "");
    CHECK(!target->find("part"));
    CHECK(parse_target("/")->segments.empty());
    CHECK(parse_target("//a//")->segments == std::vector<std::string>{"a"});
    CHECK(parse_target("/a+b")->segments.front() == "a+b");
}

TEST_CASE("what is not an absolute path of text is refused")
{
    for (const char *text : {"", "*", "http://host/", "a", "/%", "/%4", "/%zz", "/a%00b", "/%ff",
                             "/?a=%00", "/?%c3=1"})
        CHECK_MESSAGE(!parse_target(text), text);
}

TEST_CASE("dots are names like others")
{
    CHECK(parse_target("/assets/%2e%2e/x")->segments ==
          std::vector<std::string>{"assets", "..", "x"});
}

TEST_CASE("text is UTF-8 without zero bytes")
{
    CHECK(is_text("abc \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80 \xed\x9f\xbf \xf4\x8f\xbf\xbf"));
    CHECK(!is_text(std::string_view("a\0b", 3)));
    for (const char *bytes :
         {"\xc0\xaf", "\xc1\xbf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf0\x80\x80\xaf",
          "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\x80", "\xc3", "\xe2\x82", "\xff"})
        CHECK_MESSAGE(!is_text(bytes), bytes);
}

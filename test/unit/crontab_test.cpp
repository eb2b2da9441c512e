/* crontab_test.cpp - Graphile Worker's crontab files. */
#include "backfill/core/crontab.hpp"
#include "backfill/core/syntax_error.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace backfill::core;

namespace
{

CrontabItem one(const std::string &line)
{
    const auto items = parse_crontab(line);
    REQUIRE(items.size() == 1);
    return items.front();
}

std::string refusal(const std::string &text)
{
    try {
        (void) parse_crontab(text);
    } catch (const SyntaxError &error) {
        CHECK_FALSE(error.hint.empty());
        return error.message + " | " + error.detail;
    }
    return "accepted";
}

bool refused_because(const std::string &text, const std::string &why)
{
    return refusal(text).find(why) != std::string::npos;
}

} // namespace

TEST_CASE("a plain line: the task is the id, everything else has its default")
{
    const CrontabItem item = one("*/5 0-8 1,15 * 7 send_mail");
    CHECK(item.line == 1);
    CHECK(item.id == "send_mail");
    CHECK(item.task == "send_mail");
    CHECK(item.cron == "*/5 0-8 1,15 * 7");
    CHECK(item.fill_seconds == 0);
    CHECK_FALSE(item.max_attempts);
    CHECK_FALSE(item.queue_name);
    CHECK_FALSE(item.job_key);
    CHECK(item.job_key_mode == "replace");
    CHECK_FALSE(item.priority);
    CHECK(item.payload == "{}");
}

TEST_CASE("all options and a payload")
{
    const CrontabItem item = one("  0\t4 * * *   reports:build/daily-1 "
                                 "?id=daily-report&fill=1w2d3h4m5s&max=3&queue=re-ports:1"
                                 "&jobKey=a%20b%26c+d&jobKeyMode=preserve_run_at&priority=-7   "
                                 "{to: 'x', \"n\": [1, 2,]} \r");
    CHECK(item.id == "daily-report");
    CHECK(item.task == "reports:build/daily-1");
    CHECK(item.cron == "0 4 * * *");
    CHECK(item.fill_seconds == 7 * 86400 + 2 * 86400 + 3 * 3600 + 4 * 60 + 5);
    CHECK(item.max_attempts == 3);
    CHECK(item.queue_name == "re-ports:1");
    CHECK(item.job_key == "a b&c d");
    CHECK(item.job_key_mode == "preserve_run_at");
    CHECK(item.priority == -7);
    CHECK(item.payload == "{\"to\":\"x\",\"n\":[1,2]}");
}

TEST_CASE("options are a URL's query")
{
    CHECK(one("* * * * * t ?&&max=2&").max_attempts == 2);
    CHECK(one("* * * * * t ?%6dax=2").max_attempts == 2);
    CHECK(one("* * * * * t ?jobKey=a=b").job_key == "a=b");
    CHECK(one("* * * * * t ?jobKey=50%").job_key == "50%");
    CHECK(one("* * * * * t ?jobKey=%zz%4").job_key == "%zz%4");
    CHECK(one("* * * * * t {}").payload == "{}");
    CHECK(one("* * * * * t ?priority=0 {a: '?max=1'}").payload == "{\"a\":\"?max=1\"}");
}

TEST_CASE("a file: comments, empty lines, both ends of line, line numbers")
{
    const auto items = parse_crontab(
        "# the jobs\r\n\r\n* * * * * a\r\n   # * * * * * no\n\n\t0 0 * * * b ?id=c\n");
    REQUIRE(items.size() == 2);
    CHECK(items[0].id == "a");
    CHECK(items[0].line == 3);
    CHECK(items[1].id == "c");
    CHECK(items[1].line == 6);
    CHECK(parse_crontab("").empty());
    CHECK(parse_crontab("\n# nothing\n").empty());
    CHECK(parse_crontab("* * * * * a\n* * * * * a ?id=b").size() == 2);
}

TEST_CASE("a mistake rejects the whole file and names the line and the value")
{
    CHECK(refusal("* * * * * a\n\n# x\n61 * * * * b") ==
          "value \"61\" is out of range in the minute field of cron expression \"61 * * * *\" | "
          "In line 4 of the crontab: \"61 * * * * b\". It must be between 0 and 59.");
    CHECK(refusal("* * * * * a\n* * * * * b\n* * * * * a") ==
          "id \"a\" is given to more than one line | In lines 1 and 3 of the crontab.");
    CHECK(refused_because("* * * * * a ?id=x\n* * * * * b ?id=x", "id \"x\" is given"));
    CHECK(refused_because("* * * * * a ?speed=1", "option \"speed\" is unknown"));
    CHECK(refused_because("* * * * * a ?max=1&max=2", "option \"max\" is given more than once"));
    CHECK(refused_because("* * * * * a ?max=1&max=1", "option \"max\" is given more than once"));
    CHECK(refused_because("* * * * * a ?id=1x", "value \"1x\" of option id is invalid"));
    CHECK(refused_because("* * * * * a ?id=", "value \"\" of option id is invalid"));
    CHECK(refused_because("* * * * * a ?id", "value \"\" of option id is invalid"));
    CHECK(refused_because("* * * * * a ?id=a:b", "option id is invalid"));
    CHECK(refused_because("* * * * * a ?fill=2", "option fill is invalid"));
    CHECK(refused_because("* * * * * a ?fill=2y", "option fill is invalid"));
    CHECK(refused_because("* * * * * a ?fill=h", "option fill is invalid"));
    CHECK(refused_because("* * * * * a ?fill=-1h", "option fill is invalid"));
    CHECK(refused_because("* * * * * a ?fill=99999999999h", "option fill is invalid"));
    CHECK(refused_because("* * * * * a ?fill=", "option fill is invalid"));
    CHECK(refused_because("* * * * * a ?max=-1", "option max is invalid"));
    CHECK(refused_because("* * * * * a ?max=99999999999", "option max is invalid"));
    CHECK(refused_because("* * * * * a ?queue=a.b", "option queue is invalid"));
    CHECK(refused_because("* * * * * a ?queue=a%20b", "option queue is invalid"));
    CHECK(refused_because("* * * * * a ?jobKey=", "option jobKey is invalid"));
    CHECK(refused_because("* * * * * a ?jobKeyMode=unsafe_dedupe", "option jobKeyMode is invalid"));
    CHECK(refused_because("* * * * * a ?priority=1.5", "option priority is invalid"));
    CHECK(refused_because("* * * * * a ?priority=-", "option priority is invalid"));
    CHECK(refused_because("* * * * * a ?", "no option follows"));
    CHECK(refused_because("* * * * * a {", "is not a payload"));
    CHECK(refused_because("* * * * * a [1]", "is not a payload"));
    CHECK(refused_because("* * * * * a {a}", "invalid JSON5"));
    CHECK(refused_because("* * * * * a {} ?max=1", "is not a payload"));
    CHECK(refused_because("* * * * * a b", "\"b\" is not a payload"));
    CHECK(refused_because("* * * * *", "\"\" is not the name of a task"));
    CHECK(refused_because("* * * * * 1a", "\"1a\" is not the name of a task"));
    CHECK(refused_because("* * * * * a.b", "\"a.b\" is not the name of a task"));
    CHECK(refused_because("* * * * a", "\"a\" is not a field"));
    CHECK(refused_because("0 0 $ * * a", "\"$\" is not a field"));
    CHECK(refused_because("0 0 * jan * a", "\"jan\" is not a field"));
    CHECK(refused_because("@daily a", "\"@daily\" is not a field"));
    CHECK(refused_because("0-10/2 * * * * a", "\"0-10/2\" is not understood"));
    CHECK(refused_because("5-5 * * * * a", "\"5-5\" is not a range"));
}

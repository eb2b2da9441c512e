/* crontab.hpp - Graphile Worker's crontab files.
 *
 *   minute hour day month weekday task ?options {payload}
 *
 * Options are written like a URL's query: id, fill, max, queue, jobKey, jobKeyMode,
 * priority. The payload is a JSON5 object. Empty lines and lines with # are comments. */
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace backfill::core
{

struct CrontabItem {
    int line = 0;     /* counted from 1 */
    std::string id;   /* the task, unless option id says otherwise */
    std::string cron; /* the five fields, one blank between them */
    std::string task;
    std::int64_t fill_seconds = 0;
    std::optional<int> max_attempts;
    std::optional<std::string> queue_name;
    std::optional<std::string> job_key;
    std::string job_key_mode = "replace";
    std::optional<int> priority;
    std::string payload = "{}"; /* JSON */
};

/* All items of a file, in its order. Throws a SyntaxError that names the line and the
 * value if anything is wrong with any of them, duplicate ids included. */
std::vector<CrontabItem> parse_crontab(std::string_view text);

/* Where an item stands, as messages say it: In line 3 of the crontab: "...". */
std::string crontab_place(int line, std::string_view text);

} // namespace backfill::core

/* crontab.cpp - see crontab.hpp. */
#include "backfill/core/crontab.hpp"

#include "backfill/core/cron_expression.hpp"
#include "backfill/core/json5.hpp"
#include "backfill/core/syntax_error.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

namespace backfill::core
{

namespace
{

constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
constexpr std::string_view kDigits = "0123456789";
constexpr std::string_view kBlanks = " \t\v\f\r";
constexpr std::string_view kFieldCharacters = "0123456789*/,-";
constexpr const char *kLineHint =
    "A line is: minute hour day month weekday task ?options {payload}.";

bool consists_of(std::string_view text, std::string_view first, std::string_view second = {},
                 std::string_view third = {})
{
    return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
        return first.find(c) != first.npos || second.find(c) != second.npos ||
               third.find(c) != third.npos;
    });
}

/* [_a-zA-Z][more]* */
bool is_name(std::string_view text, std::string_view more)
{
    return consists_of(text.substr(0, 1), kLetters, "_") &&
           consists_of(text, kLetters, kDigits, more);
}

/* The digits' value, or nothing if it does not fit. */
std::optional<int> to_int(std::string_view digits)
{
    std::int64_t value = 0;
    for (const char c : digits) {
        value = value * 10 + (c - '0');
        if (value > std::numeric_limits<int>::max())
            return std::nullopt;
    }
    return static_cast<int>(value);
}

/* ([0-9]+[smhdw])+ in seconds, or nothing. */
std::optional<std::int64_t> parse_time_phrase(std::string_view text)
{
    constexpr std::int64_t kLongest = std::int64_t{100} * 366 * 86400;
    std::int64_t total = 0;
    if (text.empty())
        return std::nullopt;
    while (!text.empty()) {
        const std::size_t length = std::min(text.find_first_not_of(kDigits), text.size());
        if (length == 0 || length == text.size())
            return std::nullopt;
        std::int64_t unit = 0;
        switch (text[length]) {
        case 's':
            unit = 1;
            break;
        case 'm':
            unit = 60;
            break;
        case 'h':
            unit = 3600;
            break;
        case 'd':
            unit = 86400;
            break;
        case 'w':
            unit = 7 * 86400;
            break;
        default:
            return std::nullopt;
        }
        const std::optional<int> count = to_int(text.substr(0, length));
        if (!count)
            return std::nullopt;
        total += *count * unit;
        if (total > kLongest)
            return std::nullopt;
        text.remove_prefix(length + 1);
    }
    return total;
}

/* %41 and + of a URL's query. */
std::string url_decode(std::string_view text)
{
    const auto hex = [](char c) {
        return std::string_view("0123456789abcdef").find(static_cast<char>(c | 0x20));
    };
    std::string result;
    for (std::size_t at = 0; at < text.size(); at++) {
        const bool escaped = text[at] == '%' && at + 2 < text.size() && hex(text[at + 1]) < 16 &&
                             hex(text[at + 2]) < 16;
        if (escaped) {
            result += static_cast<char>(hex(text[at + 1]) * 16 + hex(text[at + 2]));
            at += 2;
        } else {
            result += text[at] == '+' ? ' ' : text[at];
        }
    }
    return result;
}

void set_option(CrontabItem &item, const std::string &key, const std::string &value)
{
    const auto refuse = [&](const char *hint) {
        throw SyntaxError{
            "value " + in_quotes(value) + " of option " + key + " is invalid", {}, hint};
    };
    if (key == "id") {
        if (!is_name(value, "-_"))
            refuse("An id consists of letters, digits, - and _ and begins with a letter or _.");
        item.id = value;
    } else if (key == "fill") {
        const auto seconds = parse_time_phrase(value);
        if (!seconds)
            refuse("Write numbers with s, m, h, d or w, such as 2h or 1w3d; at most 100 years.");
        item.fill_seconds = *seconds;
    } else if (key == "max") {
        if (!consists_of(value, kDigits) || !to_int(value))
            refuse("It is the number of attempts, the first one included.");
        item.max_attempts = to_int(value);
    } else if (key == "queue") {
        if (!consists_of(value, kLetters, kDigits, "-_:"))
            refuse("A queue's name consists of letters, digits, -, _ and :.");
        item.queue_name = value;
    } else if (key == "jobKey") {
        if (value.empty())
            refuse("Leave the option out if the job needs no key.");
        item.job_key = value;
    } else if (key == "jobKeyMode") {
        if (value != "replace" && value != "preserve_run_at")
            refuse("Use replace or preserve_run_at.");
        item.job_key_mode = value;
    } else if (key == "priority") {
        const bool negative = value.starts_with('-');
        const std::string_view digits = std::string_view(value).substr(negative ? 1 : 0);
        if (!consists_of(digits, kDigits) || !to_int(digits))
            refuse("It is a whole number; smaller runs first.");
        item.priority = *to_int(digits) * (negative ? -1 : 1);
    } else {
        throw SyntaxError{"option " + in_quotes(key) + " is unknown",
                          {},
                          "Known options: id, fill, max, queue, jobKey, jobKeyMode, priority."};
    }
}

void parse_options(CrontabItem &item, std::string_view options)
{
    std::set<std::string> seen;
    while (!options.empty()) {
        const std::size_t end = std::min(options.find('&'), options.size());
        const std::string_view option = options.substr(0, end);
        options.remove_prefix(std::min(end + 1, options.size()));
        if (option.empty())
            continue;
        const std::size_t equals = std::min(option.find('='), option.size());
        const std::string key = url_decode(option.substr(0, equals));
        const std::string value = url_decode(option.substr(std::min(equals + 1, option.size())));
        if (!seen.insert(key).second)
            throw SyntaxError{
                "option " + in_quotes(key) + " is given more than once", {}, kLineHint};
        set_option(item, key, value);
    }
}

/* Takes the next word, up to a blank, off the front of a line. */
std::string_view take_word(std::string_view &line)
{
    const std::size_t end = std::min(line.find_first_of(kBlanks), line.size());
    const std::string_view word = line.substr(0, end);
    line.remove_prefix(std::min(line.find_first_not_of(kBlanks, end), line.size()));
    return word;
}

CrontabItem parse_line(std::string_view line)
{
    CrontabItem item;
    for (int field = 0; field < 5; field++) {
        const std::string_view word = take_word(line);
        if (!consists_of(word, kFieldCharacters))
            throw SyntaxError{
                in_quotes(word) + " is not a field of a cron expression", {}, kLineHint};
        item.cron += (field > 0 ? " " : "") + std::string(word);
    }
    (void) CronExpression::parse(item.cron, CronSyntax::kGraphile);

    item.task = take_word(line);
    if (!is_name(item.task, "_:/-"))
        throw SyntaxError{in_quotes(item.task) + " is not the name of a task",
                          "It consists of letters, digits, _, :, / and - and begins with a letter "
                          "or _.",
                          kLineHint};
    item.id = item.task;
    if (line.starts_with('?')) {
        std::string_view options = take_word(line);
        options.remove_prefix(1);
        if (options.empty())
            throw SyntaxError{"no option follows the question mark", {}, kLineHint};
        parse_options(item, options);
    }
    if (!line.empty()) {
        if (!line.starts_with('{') || !line.ends_with('}'))
            throw SyntaxError{in_quotes(line) + " is not a payload", {}, kLineHint};
        item.payload = json5_to_json(line);
    }
    return item;
}

std::string_view trim(std::string_view text)
{
    const std::size_t begin = std::min(text.find_first_not_of(kBlanks), text.size());
    const std::size_t end = text.find_last_not_of(kBlanks);
    return end == text.npos ? std::string_view() : text.substr(begin, end + 1 - begin);
}

} // namespace

std::string crontab_place(int line, std::string_view text)
{
    return "In line " + std::to_string(line) + " of the crontab: " + in_quotes(text) + ".";
}

std::vector<CrontabItem> parse_crontab(std::string_view text)
{
    std::vector<CrontabItem> items;
    std::map<std::string, int> line_of_id;
    int number = 0;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        const std::string_view line = trim(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
        number++;
        if (line.empty() || line.starts_with('#'))
            continue;
        try {
            items.push_back(parse_line(line));
        } catch (SyntaxError &error) {
            error.detail =
                crontab_place(number, line) + (error.detail.empty() ? "" : " " + error.detail);
            throw;
        }
        items.back().line = number;
        const auto [known, is_new] = line_of_id.emplace(items.back().id, number);
        if (!is_new)
            throw SyntaxError{"id " + in_quotes(known->first) + " is given to more than one line",
                              "In lines " + std::to_string(known->second) + " and " +
                                  std::to_string(number) + " of the crontab.",
                              "Give one of them an id of its own with ?id=."};
    }
    return items;
}

} // namespace backfill::core

/* url.hpp - the parts of a request's target: path segments, query parameters, percent encoding. */
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace backfill::web
{

struct Target {
    /* Decoded, without empty ones; "/" has none. */
    std::vector<std::string> segments;
    /* In their order, decoded. */
    std::vector<std::pair<std::string, std::string>> query;

    /* The first value of a name; nothing if it is not there. */
    std::optional<std::string_view> find(std::string_view name) const;
};

/* Whether bytes are UTF-8 without a NUL: what a text of the database may be. */
bool is_text(std::string_view bytes);

/* The decoded text, also of "+" if that means a blank; nothing if an escape is broken or the
 * outcome is no text. */
std::optional<std::string> percent_decode(std::string_view encoded, bool plus_is_blank);

/* Nothing if the target is not an absolute path, or is not text. "." and ".." are no names of
 * anything here, so they are left as they are and match nothing. */
std::optional<Target> parse_target(std::string_view target);

/* A copy in lower case, of ASCII. */
std::string lower(std::string_view text);

/* Without blanks and tabs at both ends. */
std::string_view trim(std::string_view text);

} // namespace backfill::web

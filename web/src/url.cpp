/* url.cpp - see url.hpp. */
#include "url.hpp"

#include <algorithm>

namespace backfill::web
{

namespace
{

int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* How many bytes the character takes that this byte begins; 0 if no character begins so. */
std::size_t length_of_character(unsigned char first)
{
    if (first < 0x80)
        return 1;
    if (first >= 0xc2 && first <= 0xdf)
        return 2;
    if (first >= 0xe0 && first <= 0xef)
        return 3;
    if (first >= 0xf0 && first <= 0xf4)
        return 4;
    return 0;
}

/* The second byte tells overlong forms, surrogates and what is beyond Unicode from the others. */
bool second_byte_fits(unsigned char first, unsigned char second)
{
    switch (first) {
    case 0xe0:
        return second >= 0xa0 && second <= 0xbf;
    case 0xed:
        return second >= 0x80 && second <= 0x9f;
    case 0xf0:
        return second >= 0x90 && second <= 0xbf;
    case 0xf4:
        return second >= 0x80 && second <= 0x8f;
    default:
        return second >= 0x80 && second <= 0xbf;
    }
}

bool parse_query(std::string_view text, Target &target)
{
    while (!text.empty()) {
        const std::string_view pair = text.substr(0, text.find('&'));
        text.remove_prefix(std::min(text.size(), pair.size() + 1));
        if (pair.empty())
            continue;
        const std::size_t equals = pair.find('=');
        auto name = percent_decode(pair.substr(0, equals), true);
        auto value = percent_decode(
            equals == std::string_view::npos ? std::string_view() : pair.substr(equals + 1), true);
        if (!name || !value)
            return false;
        target.query.emplace_back(std::move(*name), std::move(*value));
    }
    return true;
}

} // namespace

std::optional<std::string_view> Target::find(std::string_view name) const
{
    for (const auto &[key, value] : query)
        if (key == name)
            return value;
    return {};
}

bool is_text(std::string_view bytes)
{
    for (std::size_t i = 0; i < bytes.size();) {
        const auto byte_at = [&](std::size_t at) { return static_cast<unsigned char>(bytes[at]); };
        const unsigned char first = byte_at(i);
        const std::size_t length = length_of_character(first);
        if (first == 0 || length == 0 || i + length > bytes.size())
            return false;
        if (length > 1 && !second_byte_fits(first, byte_at(i + 1)))
            return false;
        for (std::size_t k = 2; k < length; k++)
            if ((byte_at(i + k) & 0xc0) != 0x80)
                return false;
        i += length;
    }
    return true;
}

std::optional<std::string> percent_decode(std::string_view encoded, bool plus_is_blank)
{
    std::string decoded;
    decoded.reserve(encoded.size());
    for (std::size_t i = 0; i < encoded.size(); i++) {
        if (encoded[i] == '+' && plus_is_blank) {
            decoded += ' ';
        } else if (encoded[i] != '%') {
            decoded += encoded[i];
        } else {
            const int high = i + 1 < encoded.size() ? hex_digit(encoded[i + 1]) : -1;
            const int low = i + 2 < encoded.size() ? hex_digit(encoded[i + 2]) : -1;
            if (high < 0 || low < 0)
                return {};
            decoded += static_cast<char>(high * 16 + low);
            i += 2;
        }
    }
    if (!is_text(decoded))
        return {};
    return decoded;
}

std::optional<Target> parse_target(std::string_view text)
{
    if (text.empty() || text.front() != '/')
        return {};
    Target target;
    text = text.substr(0, text.find('#'));
    const std::size_t question_mark = text.find('?');
    if (question_mark != std::string_view::npos) {
        if (!parse_query(text.substr(question_mark + 1), target))
            return {};
        text = text.substr(0, question_mark);
    }
    while (!text.empty()) {
        text.remove_prefix(1);
        const std::string_view segment = text.substr(0, text.find('/'));
        text.remove_prefix(segment.size());
        if (segment.empty())
            continue;
        auto decoded = percent_decode(segment, false);
        if (!decoded)
            return {};
        target.segments.push_back(std::move(*decoded));
    }
    return target;
}

std::string lower(std::string_view text)
{
    std::string copy(text);
    for (char &c : copy)
        if (c >= 'A' && c <= 'Z')
            c = static_cast<char>(c - 'A' + 'a');
    return copy;
}

std::string_view trim(std::string_view text)
{
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t'))
        text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t'))
        text.remove_suffix(1);
    return text;
}

} // namespace backfill::web

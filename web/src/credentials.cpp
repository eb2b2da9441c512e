/* credentials.cpp - see credentials.hpp. */
#include "credentials.hpp"

#include "secret.hpp"
#include "url.hpp"

#include <algorithm>

namespace backfill::web
{

namespace
{

constexpr std::size_t kKeyLength = 64;

bool is_key(std::string_view text)
{
    return text.size() == kKeyLength &&
           text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string_view cookie_name(bool secure)
{
    return secure ? kSecureCookieName : kCookieName;
}

int base64_digit(char c)
{
    static constexpr std::string_view kDigits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const std::size_t at = kDigits.find(c);
    return at == std::string_view::npos ? -1 : static_cast<int>(at);
}

std::optional<std::string> base64_decode(std::string_view text)
{
    if (text.size() % 4 != 0)
        return {};
    while (text.ends_with('='))
        text.remove_suffix(1);
    std::string decoded;
    unsigned bits = 0;
    int held = 0;
    for (const char c : text) {
        const int digit = base64_digit(c);
        if (digit < 0)
            return {};
        bits = (bits << 6 | static_cast<unsigned>(digit)) & 0xffffff;
        held += 6;
        if (held >= 8) {
            held -= 8;
            decoded += static_cast<char>(bits >> held & 0xff);
        }
    }
    return decoded;
}

} // namespace

std::string_view session_key(std::string_view cookies, bool secure)
{
    while (!cookies.empty()) {
        const std::string_view cookie = trim(cookies.substr(0, cookies.find(';')));
        cookies.remove_prefix(std::min(cookies.size(), cookies.find(';') == std::string_view::npos
                                                           ? cookies.size()
                                                           : cookies.find(';') + 1));
        const std::size_t equals = cookie.find('=');
        if (equals != std::string_view::npos && cookie.substr(0, equals) == cookie_name(secure) &&
            is_key(cookie.substr(equals + 1)))
            return cookie.substr(equals + 1);
    }
    return {};
}

std::string set_cookie(std::string_view key, bool secure)
{
    std::string cookie(cookie_name(secure));
    cookie.append("=").append(key).append("; Path=/; HttpOnly; SameSite=Strict");
    if (secure)
        cookie += "; Secure";
    if (key.empty())
        cookie += "; Max-Age=0";
    return cookie;
}

std::optional<std::pair<std::string, std::string>> basic_credentials(std::string_view header)
{
    header = trim(header);
    if (lower(header.substr(0, 6)) != "basic ")
        return {};
    auto decoded = base64_decode(trim(header.substr(6)));
    if (!decoded || !is_text(*decoded))
        return {};
    const std::size_t colon = decoded->find(':');
    if (colon == std::string::npos)
        return {};
    std::pair credentials{decoded->substr(0, colon), decoded->substr(colon + 1)};
    wipe(*decoded);
    return credentials;
}

} // namespace backfill::web

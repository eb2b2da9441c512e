/* credentials.hpp - what a request shows to be let in: a cookie, or a name and a password. */
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace backfill::web
{

constexpr std::string_view kCookieName = "backfill_session";
/* Under TLS. Browsers take a cookie of such a name from this very host by TLS only, so neither a
 * host beside it nor plain HTTP can plant one. */
constexpr std::string_view kSecureCookieName = "__Host-backfill_session";

/* The session's key in a header Cookie; empty if there is none, or it is no key. */
std::string_view session_key(std::string_view cookies, bool secure = false);

/* The header Set-Cookie. An empty key makes the browser forget it. */
std::string set_cookie(std::string_view key, bool secure);

/* Name and password of a header Authorization of HTTP Basic. */
std::optional<std::pair<std::string, std::string>> basic_credentials(std::string_view header);

} // namespace backfill::web

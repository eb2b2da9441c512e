/* request_path.hpp - the way of a request as far as it needs neither a socket nor a database: from
 * bytes to a route and the values of its statement. What the server does is made of these steps;
 * the fuzz driver and the unit tests go them at once. */
#pragma once

#include "bind.hpp"
#include "guard.hpp"
#include "request.hpp"
#include "routes.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace backfill::web
{

/* What a request asks for. */
struct Asked {
    enum class What { api, page, asset, healthz, metrics };
    What what = What::page;
    Target target;
    Match match; /* of the API */
};

/* What is asked for, or why that is refused; the body may still be unread. */
std::variant<Asked, Reply> understand(const Request &request, const Guard &guard);

/* From bytes to values, or to the reply that refuses them. */
struct Understood {
    std::optional<Reply> refused;
    const Route *route = nullptr;
    SqlValues values;
};
Understood understand_bytes(std::string_view bytes, const Guard &guard);

} // namespace backfill::web

/* assets.hpp - the files of the page, which are part of the program (embed.sh). */
#pragma once

#include "reply.hpp"
#include "request.hpp"

#include <string_view>

namespace backfill::web
{

struct Asset {
    std::string_view name; /* as in the directory web/page */
    std::string_view etag;
    std::string_view plain;
    std::string_view gzip;
};

/* Nothing if there is no such file. */
const Asset *find_asset(std::string_view name);

Reply asset_reply(const Request &request, const Asset &asset);

/* The file of a name below /assets; else a 404. */
Reply named_asset_reply(const Request &request, std::string_view name);

/* The page itself. */
Reply page_reply(const Request &request);

} // namespace backfill::web

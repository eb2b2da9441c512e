/* assets.cpp - see assets.hpp. */
#include "assets.hpp"

#include "url.hpp"

#include <array>
#include <utility>

namespace backfill::web
{

/* Made by embed.sh. */
extern const Asset *const kAssets;
extern const std::size_t kAssetCount;

namespace
{

std::string_view content_type_of(std::string_view name)
{
    static constexpr std::array<std::pair<std::string_view, std::string_view>, 9> kTypes{
        {{".html", "text/html; charset=utf-8"},
         {".js", "text/javascript; charset=utf-8"},
         {".css", "text/css; charset=utf-8"},
         {".svg", "image/svg+xml"},
         {".png", "image/png"},
         {".ico", "image/x-icon"},
         {".json", "application/json"},
         {".webmanifest", "application/manifest+json"},
         {".txt", "text/plain; charset=utf-8"}}};
    for (const auto &[ending, type] : kTypes)
        if (name.ends_with(ending))
            return type;
    return "application/octet-stream";
}

/* A name such as app-4F3A29C1.js: other contents would have another one. */
bool has_hash(std::string_view name)
{
    const std::size_t dot = name.rfind('.');
    const std::size_t dash = name.rfind('-', dot);
    if (dot == std::string_view::npos || dash == std::string_view::npos || dot < dash + 9)
        return false;
    return name.substr(dash + 1, dot - dash - 1)
               .find_first_not_of("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == std::string_view::npos;
}

bool accepts_gzip(std::string_view header)
{
    const std::string codings = lower(header);
    const std::size_t at = codings.find("gzip");
    return at != std::string::npos && !codings.substr(at).starts_with("gzip;q=0");
}

} // namespace

const Asset *find_asset(std::string_view name)
{
    for (std::size_t i = 0; i < kAssetCount; i++)
        if (kAssets[i].name == name)
            return &kAssets[i];
    return nullptr;
}

Reply asset_reply(const Request &request, const Asset &asset)
{
    Reply reply;
    reply.content_type = content_type_of(asset.name);
    reply.headers.emplace_back("ETag", std::string(asset.etag));
    reply.headers.emplace_back(
        "Cache-Control", has_hash(asset.name) ? "public, max-age=31536000, immutable" : "no-cache");
    reply.headers.emplace_back("Vary", "Accept-Encoding");
    if (header_of(request, "If-None-Match").find(asset.etag) != std::string_view::npos) {
        reply.status = 304;
        return reply;
    }
    reply.fixed_body = asset.plain;
    if (!asset.gzip.empty() && accepts_gzip(header_of(request, "Accept-Encoding"))) {
        reply.headers.emplace_back("Content-Encoding", "gzip");
        reply.fixed_body = asset.gzip;
    }
    return reply;
}

Reply named_asset_reply(const Request &request, std::string_view name)
{
    const Asset *asset = find_asset(name);
    return asset == nullptr ? problem(404, "not_found", "there is no such file")
                            : asset_reply(request, *asset);
}

Reply page_reply(const Request &request)
{
    return named_asset_reply(request, "index.html");
}

} // namespace backfill::web

/* guard.cpp - see guard.hpp. */
#include "guard.hpp"

#include "address.hpp"
#include "url.hpp"

#include <algorithm>
#include <charconv>

namespace backfill::web
{

namespace ip = boost::asio::ip;

namespace
{

template <class Bytes> bool same_bits(const Bytes &a, const Bytes &b, unsigned bits)
{
    for (std::size_t i = 0; i < a.size() && bits > 0; i++) {
        const unsigned here = std::min(bits, 8U);
        if ((a[i] ^ b[i]) >> (8 - here) != 0)
            return false;
        bits -= here;
    }
    return true;
}

/* Of a list with commas: what a proxy adds stands at the end. */
std::string_view last_item(std::string_view list)
{
    const std::size_t comma = list.rfind(',');
    return comma == std::string_view::npos ? list : list.substr(comma + 1);
}

Reply cross_site()
{
    return problem(403, "cross_site", "the request comes from a page of another site");
}

} // namespace

bool AddressRange::contains(const ip::address &address) const
{
    const ip::address wanted = plain(address);
    if (wanted.is_v4() != network.is_v4())
        return false;
    return wanted.is_v4() ? same_bits(wanted.to_v4().to_bytes(), network.to_v4().to_bytes(), bits)
                          : same_bits(wanted.to_v6().to_bytes(), network.to_v6().to_bytes(), bits);
}

std::optional<AddressRange> parse_range(std::string_view text)
{
    const std::size_t slash = text.find('/');
    boost::system::error_code error;
    const ip::address network = plain(ip::make_address(std::string(text.substr(0, slash)), error));
    if (error)
        return {};
    const unsigned most = network.is_v4() ? 32 : 128;
    unsigned bits = most;
    if (slash != std::string_view::npos) {
        const std::string_view number = text.substr(slash + 1);
        const auto [end, wrong] =
            std::from_chars(number.data(), number.data() + number.size(), bits);
        if (wrong != std::errc() || end != number.data() + number.size() || bits > most)
            return {};
    }
    return AddressRange{network, bits};
}

Guard::Guard(const std::vector<std::string> &allowed_hosts, std::vector<AddressRange> proxies,
             std::string user_header)
    : hosts_{"localhost"}, proxies_(std::move(proxies)), user_header_(std::move(user_header))
{
    for (const std::string &host : allowed_hosts)
        hosts_.insert(host_of(host));
}

bool Guard::is_proxy(const ip::address &address) const
{
    return std::any_of(proxies_.begin(), proxies_.end(),
                       [&](const AddressRange &range) { return range.contains(address); });
}

/* The last address that is no proxy of ours: a client may write whatever it likes before that. */
ip::address Guard::forwarded_for(std::string_view list, const ip::address &peer) const
{
    ip::address client = peer;
    while (!list.empty()) {
        const std::string_view item = last_item(list);
        list.remove_suffix(std::min(list.size(), item.size() + 1));
        boost::system::error_code error;
        const ip::address address = ip::make_address(std::string(trim(item)), error);
        if (error)
            break;
        client = address;
        if (!is_proxy(address))
            break;
    }
    return client;
}

Client Guard::client_of(const Request &request, const ip::address &peer, bool by_tls) const
{
    Client client{plain(peer), by_tls, {}};
    if (!is_proxy(peer))
        return client;
    client.address = plain(forwarded_for(list_of(request, "X-Forwarded-For"), peer));
    const std::string protocols = list_of(request, "X-Forwarded-Proto");
    client.secure = by_tls || lower(trim(last_item(protocols))) == "https";
    /* Two of them: one may be the client's own. */
    if (!user_header_.empty() && count_of(request, user_header_) == 1)
        client.proxy_user = std::string(trim(header_of(request, user_header_)));
    return client;
}

std::optional<Reply> Guard::refuse_host(const Request &request) const
{
    const std::string host = host_of(header_of(request, "Host"));
    if (host.empty())
        return problem(400, "bad_host", "the request must name a host");
    if (hosts_.contains(host) || is_address(host))
        return {};
    return problem(421, "bad_host", "this program does not answer to the name " + host,
                   "Start it with --allowed-host.");
}

std::optional<Reply> Guard::refuse_site(const Request &request, bool changes) const
{
    const std::string site = lower(trim(header_of(request, "Sec-Fetch-Site")));
    if (!site.empty()) {
        if (site == "same-origin" || site == "none")
            return {};
        return cross_site();
    }
    if (!changes || count_of(request, "Origin") == 0)
        return {};
    const std::string origin = lower(trim(header_of(request, "Origin")));
    const std::size_t colon = origin.find("://");
    if (colon == std::string::npos ||
        origin.substr(colon + 3) != lower(trim(header_of(request, "Host"))))
        return cross_site();
    return {};
}

bool is_json(std::string_view content_type)
{
    return lower(trim(content_type.substr(0, content_type.find(';')))) == "application/json";
}

} // namespace backfill::web

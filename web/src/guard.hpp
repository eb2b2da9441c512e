/* guard.hpp - which requests are refused for where they come from: another site's page, a name that
 * leads here by mistake or malice; and what a trusted proxy says of its clients. */
#pragma once

#include "reply.hpp"
#include "request.hpp"

#include <boost/asio/ip/address.hpp>

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace backfill::web
{

/* A range of addresses, such as 10.0.0.0/8. */
struct AddressRange {
    boost::asio::ip::address network;
    unsigned bits;

    bool contains(const boost::asio::ip::address &address) const;
};

/* Nothing if it is no address, or the number of bits does not fit. */
std::optional<AddressRange> parse_range(std::string_view text);

/* Where a request comes from. */
struct Client {
    boost::asio::ip::address address; /* of the browser, if a trusted proxy says so */
    bool secure = false;              /* by TLS, here or at the proxy */
    /* The role that a trusted proxy has authenticated. */
    std::optional<std::string> proxy_user;
};

class Guard
{
  public:
    /* user_header: in which proxies name a role; empty: in none. */
    Guard(const std::vector<std::string> &allowed_hosts, std::vector<AddressRange> proxies,
          std::string user_header);

    /* What is known of the client; headers of other addresses than a proxy's count for nothing. */
    Client client_of(const Request &request, const boost::asio::ip::address &peer,
                     bool by_tls) const;

    /* Of every request but those for /healthz. Any address may be named: a page that an attacker's
     * name server points here has a name. */
    std::optional<Reply> refuse_host(const Request &request) const;

    /* Of requests to the API: pages of other sites may neither change nor embed anything. */
    std::optional<Reply> refuse_site(const Request &request, bool changes) const;

    bool is_proxy(const boost::asio::ip::address &address) const;

  private:
    std::set<std::string> hosts_;
    std::vector<AddressRange> proxies_;
    std::string user_header_;

    boost::asio::ip::address forwarded_for(std::string_view list,
                                           const boost::asio::ip::address &peer) const;
};

/* Whether a body of this content type is JSON. */
bool is_json(std::string_view content_type);

} // namespace backfill::web

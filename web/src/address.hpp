/* address.hpp - the addresses of clients, as they are compared and counted. */
#pragma once

#include <boost/asio/ip/address.hpp>

#include <algorithm>

namespace backfill::web
{

/* An IPv4 address that came in IPv6's clothes, such as ::ffff:10.0.0.1, in its own. */
inline boost::asio::ip::address plain(const boost::asio::ip::address &address)
{
    if (address.is_v6() && address.to_v6().is_v4_mapped())
        return boost::asio::ip::make_address_v4(boost::asio::ip::v4_mapped, address.to_v6());
    return address;
}

/* A client with one address of IPv6 has the other 2^64 of its network, too: they count as one. */
inline boost::asio::ip::address counted_as(const boost::asio::ip::address &address)
{
    const boost::asio::ip::address known = plain(address);
    if (known.is_v4())
        return known;
    auto bytes = known.to_v6().to_bytes();
    std::fill(bytes.begin() + 8, bytes.end(), 0);
    return boost::asio::ip::address_v6(bytes);
}

} // namespace backfill::web

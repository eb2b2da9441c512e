/* clients.hpp - the open connections of clients, and how many there may be. A client that only
 * holds a connection does not keep others out: it has to go when there is no room. */
#pragma once

#include <boost/asio/ip/address.hpp>

#include <cstddef>
#include <functional>
#include <list>
#include <map>

namespace backfill::web
{

struct ClientConnection {
    boost::asio::ip::address address;
    std::function<void()> close;
    /* No complete request of it is being answered. */
    bool waits = true;
    /* It ends after the present reply. */
    bool is_last = false;
};

class Clients
{
  public:
    using Place = std::list<ClientConnection>::iterator;

    Clients(std::size_t most, std::size_t most_of_address)
        : most_(most), most_of_address_(most_of_address)
    {
    }

    /* Whether one more of this address may come; to make room, the connection that has waited for
     * longest is closed. */
    bool admit(const boost::asio::ip::address &address);

    Place add(ClientConnection connection);
    void remove(Place place);
    /* It waits again; those that have waited for longest stand first. */
    void now_waits(Place place);
    void now_busy(Place place) { place->waits = false; }

    /* Closes those that wait; the others end with their reply. */
    void end_all();

    std::size_t count() const { return all_.size(); }

  private:
    std::size_t most_;
    std::size_t most_of_address_;
    std::list<ClientConnection> all_;
    std::map<boost::asio::ip::address, std::size_t> of_address_;

    bool close_one(const boost::asio::ip::address *address);
};

} // namespace backfill::web

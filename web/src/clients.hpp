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
    /* Reading or waiting for a request, working on it, or sending a reply. Only while the program
     * works on a request does the connection not have to make room: the rest is up to the client.
     */
    enum class Doing { reading, working, sending } doing = Doing::reading;
    /* It ends after the present reply. */
    bool is_last = false;
};

class Clients
{
  public:
    using Place = std::list<ClientConnection>::iterator;
    using Doing = ClientConnection::Doing;

    Clients(std::size_t most, std::size_t most_of_address)
        : most_(most), most_of_address_(most_of_address)
    {
    }

    /* Whether one more of this address may come; to make room, the connection is closed that has
     * not got on for longest. A proxy's address stands for many clients, so it has no limit of its
     * own. */
    bool admit(const boost::asio::ip::address &address, bool is_proxy);

    Place add(ClientConnection connection);
    void remove(Place place);
    /* It has got on: those that have not for longest stand first. */
    void now(Doing doing, Place place);

    /* Closes those that read; the others end with their reply. */
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

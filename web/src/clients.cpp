/* clients.cpp - see clients.hpp. */
#include "clients.hpp"

#include "address.hpp"

namespace backfill::web
{

/* A connection that is closed here is removed when its coroutine sees that; until then it counts,
 * so one that has been closed is not chosen again. */
bool Clients::close_one(const boost::asio::ip::address *address)
{
    for (ClientConnection &connection : all_) {
        if (connection.doing == Doing::working || connection.is_last ||
            (address != nullptr && connection.address != *address))
            continue;
        connection.is_last = true;
        connection.close();
        return true;
    }
    return false;
}

bool Clients::admit(const boost::asio::ip::address &address, bool is_proxy)
{
    const auto counted = counted_as(address);
    const auto entry = of_address_.find(counted);
    if (!is_proxy && entry != of_address_.end() && entry->second >= most_of_address_)
        return close_one(&counted);
    return all_.size() < most_ || close_one(nullptr);
}

Clients::Place Clients::add(ClientConnection connection)
{
    connection.address = counted_as(connection.address);
    of_address_[connection.address]++;
    all_.push_back(std::move(connection));
    return std::prev(all_.end());
}

void Clients::remove(Place place)
{
    const auto entry = of_address_.find(place->address);
    if (--entry->second == 0)
        of_address_.erase(entry);
    all_.erase(place);
}

void Clients::now(Doing doing, Place place)
{
    place->doing = doing;
    all_.splice(all_.end(), all_, place);
}

void Clients::end_all()
{
    for (ClientConnection &connection : all_) {
        connection.is_last = true;
        if (connection.doing == Doing::reading)
            connection.close();
    }
}

} // namespace backfill::web

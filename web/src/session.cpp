/* session.cpp - see session.hpp. */
#include "session.hpp"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <stdexcept>

namespace backfill::web
{

namespace
{

constexpr int kKeyBytes = 32;

std::string hash_of(std::string_view key)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    if (EVP_Digest(key.data(), key.size(), digest, &length, EVP_sha256(), nullptr) != 1)
        throw std::runtime_error("SHA-256 is not to be had");
    return std::string(reinterpret_cast<const char *>(digest), length);
}

std::string random_key()
{
    unsigned char bytes[kKeyBytes];
    if (RAND_bytes(bytes, kKeyBytes) != 1)
        throw std::runtime_error("there are no random bytes to be had");
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string key;
    for (const unsigned char byte : bytes) {
        key += kDigits[byte >> 4];
        key += kDigits[byte & 15];
    }
    return key;
}

} // namespace

bool Sessions::is_over(const Session &session) const
{
    const TimePoint now = Clock::now();
    return session.ended || now - session.used > limits_.idle ||
           now - session.created > limits_.lifetime;
}

void Sessions::finish(Session &session)
{
    if (session.ended)
        return;
    session.ended = true;
    if (on_end)
        on_end(session);
}

void Sessions::make_room_for(const std::string &user)
{
    SessionPtr oldest;
    std::size_t count = 0;
    for (const auto &[key, session] : sessions_) {
        if (session->user != user)
            continue;
        count++;
        if (!oldest || session->used < oldest->used)
            oldest = session;
    }
    if (count >= limits_.most_of_role)
        end(oldest);
}

bool Sessions::add_as(std::string_view key, const SessionPtr &session)
{
    make_room_for(session->user);
    if (sessions_.size() >= limits_.most)
        sweep();
    if (sessions_.size() >= limits_.most)
        return false;
    sessions_[hash_of(key)] = session;
    return true;
}

std::string Sessions::add(const SessionPtr &session)
{
    const std::string key = random_key();
    return add_as(key, session) ? key : std::string();
}

SessionPtr Sessions::find(std::string_view key)
{
    const auto entry = sessions_.find(hash_of(key));
    if (entry == sessions_.end())
        return nullptr;
    if (is_over(*entry->second)) {
        finish(*entry->second);
        sessions_.erase(entry);
        return nullptr;
    }
    return entry->second;
}

void Sessions::end(const SessionPtr &session)
{
    finish(*session);
    std::erase_if(sessions_, [&](const auto &entry) { return entry.second == session; });
}

void Sessions::sweep()
{
    std::erase_if(sessions_, [&](const auto &entry) {
        if (is_over(*entry.second))
            finish(*entry.second);
        return entry.second->ended;
    });
}

void Sessions::end_all()
{
    for (const auto &[key, session] : sessions_)
        finish(*session);
    sessions_.clear();
}

} // namespace backfill::web

/* secret.hpp - a text that is overwritten when it is no longer needed, such as a password. Copies
 * that libraries make of it, libpq's above all, are not. */
#pragma once

#include <openssl/crypto.h>

#include <string>
#include <utility>

namespace backfill::web
{

inline void wipe(std::string &text)
{
    OPENSSL_cleanse(text.data(), text.size());
    text.clear();
}

class Secret
{
  public:
    Secret() = default;
    explicit Secret(const std::string &text) : text_(text) {}
    ~Secret() { wipe(text_); }
    Secret(const Secret &) = delete;
    Secret &operator=(const Secret &) = delete;

    const std::string &text() const { return text_; }

  private:
    std::string text_;
};

} // namespace backfill::web

/* tls.hpp - the certificate and the key that TLS is spoken with. */
#pragma once

#include <boost/asio/ssl/context.hpp>

#include <memory>
#include <string>

namespace backfill::web
{

/* TLS 1.2 and newer. Throws std::invalid_argument if the files cannot be used. */
std::shared_ptr<boost::asio::ssl::context> make_tls(const std::string &certificate,
                                                    const std::string &key);

} // namespace backfill::web

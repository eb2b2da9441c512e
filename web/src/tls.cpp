/* tls.cpp - see tls.hpp. */
#include "tls.hpp"

#include <boost/asio/ssl.hpp>

#include <stdexcept>

namespace backfill::web
{

std::shared_ptr<boost::asio::ssl::context> make_tls(const std::string &certificate,
                                                    const std::string &key)
{
    using Context = boost::asio::ssl::context;
    auto context = std::make_shared<Context>(Context::tls_server);
    context->set_options(Context::default_workarounds | Context::no_sslv2 | Context::no_sslv3 |
                         Context::no_tlsv1 | Context::no_tlsv1_1 | Context::no_compression);
    SSL_CTX_set_options(context->native_handle(), SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(context->native_handle(), SSL_MODE_RELEASE_BUFFERS);
    boost::system::error_code error;
    context->use_certificate_chain_file(certificate, error);
    if (error)
        throw std::invalid_argument("cannot use the certificate in " + certificate + ": " +
                                    error.message());
    context->use_private_key_file(key, Context::pem, error);
    if (error)
        throw std::invalid_argument("cannot use the key in " + key + ": " + error.message());
    if (SSL_CTX_check_private_key(context->native_handle()) != 1)
        throw std::invalid_argument("the key in " + key +
                                    " does not belong to the certificate in " + certificate);
    return context;
}

} // namespace backfill::web

/* request_path_fuzz.cpp - libFuzzer's driver of the request path: from bytes to the values of a
 * statement, or to the reply that refuses them. */
#include "credentials.hpp"
#include "request_path.hpp"

#include <cstdint>
#include <cstdlib>

using namespace backfill::web;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    static const Guard guard({"queue.example"}, {*parse_range("10.0.0.0/8")}, "X-Forwarded-User");
    const std::string_view bytes(reinterpret_cast<const char *>(data), size);
    const Understood result = understand_bytes(bytes, guard);
    if (result.refused) {
        head_of(*result.refused, Manner());
        return 0;
    }
    /* What goes to the database is text, as many values as the statement takes. */
    if (result.route != nullptr && result.values.size() != result.route->parameters.size())
        std::abort();
    for (const auto &value : result.values)
        if (value && !is_text(*value))
            std::abort();
    session_key(bytes);
    basic_credentials(bytes);
    return 0;
}

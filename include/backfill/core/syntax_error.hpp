/* syntax_error.hpp - what the parsers of core/ throw about their input. */
#pragma once

#include <string>
#include <string_view>

namespace backfill::core
{

struct SyntaxError {
    std::string message;
    std::string detail;
    std::string hint;
};

inline std::string in_quotes(std::string_view text)
{
    return "\"" + std::string(text) + "\"";
}

} // namespace backfill::core

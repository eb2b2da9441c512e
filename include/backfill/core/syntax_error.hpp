/* syntax_error.hpp - what the parsers of core/ throw about their input. */
#pragma once

#include <string>

namespace backfill::core
{

struct SyntaxError {
    std::string message;
    std::string detail;
    std::string hint;
};

} // namespace backfill::core

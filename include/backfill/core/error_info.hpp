/* error_info.hpp - an error as plain values: what last_error keeps of it. */
#pragma once

#include <string>

namespace backfill::core
{

struct ErrorInfo {
    std::string sqlstate; /* five characters */
    std::string message;
    std::string detail;
    std::string hint;
    std::string context;
};

} // namespace backfill::core

/* error_info.hpp - an error as plain values: what last_error keeps of it. */
#pragma once

#include <cstddef>
#include <string>

namespace backfill::core
{

/* A message can be as long as the data in it: of each text this many bytes are kept, wherever it
 * goes (rows, the log, hooks, clients). */
inline constexpr std::size_t kMaxErrorText = 8192;

struct ErrorInfo {
    std::string sqlstate; /* five characters */
    std::string message;
    std::string detail;
    std::string hint;
    std::string context;
};

} // namespace backfill::core

/* log.hpp - lines for the operator, on standard error. */
#pragma once

#include <string>
#include <string_view>

namespace backfill::web
{

/* Control characters, which could look like another line, are shown as "?". */
void log_line(std::string_view text);

} // namespace backfill::web

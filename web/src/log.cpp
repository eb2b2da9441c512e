/* log.cpp - see log.hpp. */
#include "log.hpp"

#include <unistd.h>

namespace backfill::web
{

/* One write, so that lines of several processes do not mix; a log that is full or gone must not
 * stop the program. */
void log_line(std::string_view text)
{
    std::string line(text);
    for (char &c : line)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
            c = '?';
    line.insert(0, "backfill-web: ");
    line += '\n';
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

} // namespace backfill::web

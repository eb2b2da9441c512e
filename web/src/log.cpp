/* log.cpp - see log.hpp. */
#include "log.hpp"

#include <climits>
#include <poll.h>
#include <unistd.h>

namespace backfill::web
{

namespace
{

/* A pipe that does takes PIPE_BUF bytes without making the writer wait. */
bool takes_more()
{
    pollfd log{STDERR_FILENO, POLLOUT, 0};
    return poll(&log, 1, 0) == 1 && (log.revents & POLLOUT) != 0;
}

} // namespace

/* One write, so that lines of several processes do not mix; a log that is full or gone must not
 * stop the program: then the line is lost. */
void log_line(std::string_view text)
{
    std::string line(text);
    for (char &c : line)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
            c = '?';
    line.insert(0, "backfill-web: ");
    if (line.size() >= PIPE_BUF)
        line.resize(PIPE_BUF - 1);
    line += '\n';
    if (!takes_more())
        return;
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

} // namespace backfill::web

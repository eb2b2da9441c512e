/* own_tasks.hpp - which tasks a batch runs jobs of. */
#pragma once

#include "backfill/config/config.hpp"

namespace backfill::queue
{

/* The tasks whose handlers the current user's executors run; of these only those named, unless
 * none is. The strings live as long as the configuration. For a batch. */
std::vector<std::string_view> own_tasks(const Config &config, const std::vector<std::string> &only,
                                        bool with_procedures);

} // namespace backfill::queue

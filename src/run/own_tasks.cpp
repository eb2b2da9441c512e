/* own_tasks.cpp - see own_tasks.hpp. */
#include "backfill/run/own_tasks.hpp"

namespace backfill::queue
{

std::vector<std::string_view> own_tasks(const Config &config, const std::vector<std::string> &only,
                                        bool with_procedures)
{
    std::vector<std::string_view> names;
    for (const Task &task : config.tasks()) {
        const bool wanted =
            only.empty() || std::find(only.begin(), only.end(), task.identifier) != only.end();
        const bool possible = with_procedures || !task.handler.is_procedure;
        if (wanted && possible && task.has_handler() && task.run_as_oid == GetUserId())
            names.push_back(task.identifier);
    }
    return names;
}

} // namespace backfill::queue

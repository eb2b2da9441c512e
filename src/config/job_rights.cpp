/* job_rights.cpp - see job_rights.hpp. */
#include "backfill/config/job_rights.hpp"

#include "backfill/pg/table.hpp"

namespace backfill::queue::job_rights
{

void check_enqueue(const Config &config, std::string_view task_identifier)
{
    if (!config.may_enqueue(GetUserId(), task_identifier))
        fail(ERRCODE_INSUFFICIENT_PRIVILEGE,
             "permission denied to enqueue task \"" + std::string(task_identifier) + "\"",
             "Role \"" + pg::role_name(GetUserId()) +
                 "\" may enqueue only the tasks that grant_producer() allows it.",
             "Allow it with backfill.grant_producer(role, tasks).");
}

bool may_use_key(const Config &config, std::string_view task_identifier)
{
    return config.may_enqueue(GetUserId(), task_identifier);
}

void check_key(const Config &config, std::string_view task_identifier, std::string_view job_key)
{
    if (!may_use_key(config, task_identifier))
        fail(ERRCODE_INSUFFICIENT_PRIVILEGE,
             "permission denied for job_key \"" + pg::shortened(job_key) + "\"",
             "It belongs to a job of a task that role \"" + pg::role_name(GetUserId()) +
                 "\" may not enqueue.",
             "Use another job_key, or allow the task with backfill.grant_producer(role, tasks).");
}

bool may_see_all()
{
    const Oid job_table = pg::relation_oid("job");
    return pg::call(
        [&] { return pg_class_aclcheck(job_table, GetUserId(), ACL_SELECT) == ACLCHECK_OK; });
}

JobRow visible(const JobRow &row)
{
    JobRow shown = row;
    if (!may_see_all())
        for (const Column column :
             {Column::kPayload, Column::kHeaders, Column::kLastError, Column::kWorker,
              Column::kClaimToken})
            shown.set_null(column);
    return shown;
}

} // namespace backfill::queue::job_rights

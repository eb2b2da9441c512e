/* config.hpp - tasks, retry policies, producers, error rules and hooks, cached per backend.
 *
 * The tables are the truth; a trigger on each (backfill._config_changed) tells every
 * backend to read them again before it next asks. */
#pragma once

#include "backfill/core/hook_event.hpp"
#include "backfill/core/retry_decision.hpp"
#include "backfill/core/retry_policy.hpp"
#include "backfill/pg/datum.hpp"

#include <array>
#include <memory>

namespace backfill::queue
{

/* Consumers of a task that has no notify_channel or is not registered listen here. */
inline constexpr std::string_view kDefaultChannel = "backfill";

/* A function of users, by its name, so that nothing dangles when it is dropped. */
struct FunctionRef {
    std::string schema;
    std::string name; /* empty: there is none */
    std::vector<std::string> argtypes;
    std::string signature;  /* the three as one, to be shown: public.send(jsonb) */
    Oid owner = InvalidOid; /* when it was registered */
    bool is_procedure = false;

    void sign(); /* makes the signature */
};

struct Task {
    std::string identifier;
    FunctionRef handler; /* or none: external consumers */
    std::optional<std::string> queue_name;
    std::optional<int> priority;
    std::optional<int> max_attempts;
    std::optional<std::string> retry_policy;
    int64 timeout_us = 0;           /* 0: no limit */
    int64 keep_history_us = 0;      /* how long ended jobs are kept; 0: not at all */
    bool savepoint_per_job = false; /* always; else executors decide */
    std::string notify_channel;     /* of its consumers */
    std::string run_as;
    Oid run_as_oid = InvalidOid; /* InvalidOid: the role does not exist (any more) */

    bool has_handler() const { return !handler.name.empty(); }
};

struct Hook {
    std::string task_identifier; /* empty: of all tasks */
    FunctionRef function;
    std::string run_as;
    Oid run_as_oid = InvalidOid; /* as of a task */
    std::string search_path;
};

class Config
{
  public:
    const Task *find_task(std::string_view identifier) const;
    const std::vector<Task> &tasks() const { return tasks_; }

    /* A policy set by a user, or a preset. */
    std::optional<core::RetryPolicy> find_policy(std::string_view name) const;
    const std::vector<std::pair<std::string, core::RetryPolicy>> &user_policies() const
    {
        return policies_;
    }

    /* The hooks of an event, in their order. */
    const std::vector<Hook> &hooks(core::HookEvent event) const
    {
        return hooks_[static_cast<std::size_t>(event)];
    }
    /* Whether any hook hears of runs. */
    bool has_run_hooks() const;

    const core::ErrorRules &error_rules() const { return error_rules_; }

    /* Whether role may enqueue jobs of a task: the owner of the extension, its members and
     * superusers may, and roles to which grant_producer() allows it. Others may nothing, whatever
     * they can execute. */
    bool may_enqueue(Oid role, std::string_view task_identifier) const;

    static std::shared_ptr<const Config> load();

  private:
    struct Producer {
        Oid role; /* exists */
        bool all_tasks;
        std::unordered_set<std::string> tasks;
    };
    std::vector<Task> tasks_;
    std::unordered_map<std::string_view, const Task *> task_by_name_;
    std::vector<std::pair<std::string, core::RetryPolicy>> policies_;
    std::vector<Producer> producers_;
    Oid owner_ = InvalidOid; /* of the extension */
    core::ErrorRules error_rules_;
    std::array<std::vector<Hook>, core::kHookEventCount> hooks_;
};

/* The current configuration; reads the tables if something changed. Needs a
 * transaction. Keep the pointer only as long as one operation takes.
 * Errors: Failure 55000 if the extension is not installed. */
std::shared_ptr<const Config> config();

/* Registers the invalidation callbacks; once per process, from _PG_init. */
void init_config();

/* The policy of a job: its own, or "default" if that one no longer exists. */
core::RetryPolicy policy_of(const Config &config, std::string_view name);

} // namespace backfill::queue

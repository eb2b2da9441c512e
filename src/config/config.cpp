/* config.cpp - see config.hpp. */
#include "backfill/config/config.hpp"

#include "backfill/guc.hpp"
#include "backfill/pg/invalidation_flag.hpp"
#include "backfill/pg/own_table.hpp"
#include "backfill/pg/role.hpp"
#include "backfill/pg/table.hpp"

namespace backfill::queue
{

void FunctionRef::sign()
{
    signature = pg::call([&] { return quote_qualified_identifier(schema.c_str(), name.c_str()); });
    signature += "(";
    for (std::size_t i = 0; i < argtypes.size(); i++)
        signature += (i == 0 ? "" : ", ") + argtypes[i];
    signature += ")";
}

namespace
{

/* The columns of the tables, in the order in which they are read below. */
constexpr pg::OwnColumn kTaskColumns[] = {
    {"task_identifier", TEXTOID, true},
    {"handler_schema", TEXTOID, false},
    {"handler_name", TEXTOID, false},
    {"handler_argtypes", TEXTARRAYOID, false},
    {"queue_name", TEXTOID, false},
    {"priority", INT2OID, false},
    {"max_attempts", INT2OID, false},
    {"retry_policy", TEXTOID, false},
    {"timeout", INTERVALOID, false},
    {"run_as", pg::kRoleColumn, true},
    {"notify_channel", TEXTOID, false},
    {"registered_at", TIMESTAMPTZOID, true},
    {"keep_history", INTERVALOID, false},
    {"handler_is_procedure", BOOLOID, true},
    {"handler_owner", pg::kRoleColumn, false},
    {"savepoint_per_job", BOOLOID, true},
};
constexpr pg::OwnColumn kPolicyColumns[] = {
    {"policy_name", TEXTOID, true},       {"max_attempts", INT2OID, true},
    {"initial_delay", INTERVALOID, true}, {"max_delay", INTERVALOID, true},
    {"multiplier", FLOAT8OID, true},      {"jitter_factor", FLOAT8OID, true},
};
constexpr pg::OwnColumn kProducerColumns[] = {
    {"role_name", pg::kRoleColumn, true},
    {"tasks", TEXTARRAYOID, false},
};
constexpr pg::OwnColumn kRuleColumns[] = {
    {"id", INT4OID, true},        {"task_identifier", TEXTOID, false},
    {"sqlstate", TEXTOID, false}, {"message_contains", TEXTOID, false},
    {"decision", TEXTOID, true},
};
constexpr pg::OwnColumn kHookColumns[] = {
    {"id", INT4OID, true},
    {"event", TEXTOID, true},
    {"function_schema", TEXTOID, true},
    {"function_name", TEXTOID, true},
    {"task_identifier", TEXTOID, false},
    {"run_as", pg::kRoleColumn, true},
    {"search_path", TEXTOID, true},
    {"function_owner", pg::kRoleColumn, false},
};
constinit pg::OwnTable task_table("task", kTaskColumns);
constinit pg::OwnTable policy_table("retry_policy", kPolicyColumns);
constinit pg::OwnTable producer_table("producer", kProducerColumns);
constinit pg::OwnTable rule_table("error_rule", kRuleColumns);
constinit pg::OwnTable hook_table("hook", kHookColumns);

pg::InvalidationFlag outdated;

std::shared_ptr<const Config> &current()
{
    static std::shared_ptr<const Config> config;
    return config;
}

/* Reads one row of a table by column numbers (0-based, in table order). */
class RowReader
{
  public:
    explicit RowReader(const pg::TableRow &row) : row_(row) {}
    bool is_null(int column) const { return row_.nulls[column]; }
    Datum datum(int column) const { return row_.values[column]; }
    const pg::StoredRole &role(int column) const { return pg::stored_role(datum(column)); }
    std::string text(int column) const
    {
        return is_null(column) ? std::string() : pg::to_string(datum(column));
    }
    std::optional<std::string> optional_text(int column) const
    {
        return is_null(column) ? std::nullopt : std::optional(pg::to_string(datum(column)));
    }
    std::optional<int> optional_int2(int column) const
    {
        return is_null(column) ? std::nullopt : std::optional<int>(DatumGetInt16(datum(column)));
    }
    int64 microseconds(int column) const
    {
        return is_null(column) ? 0 : pg::to_microseconds(*DatumGetIntervalP(datum(column)));
    }
    std::vector<std::string> text_array(int column) const
    {
        std::vector<std::string> result;
        if (is_null(column))
            return result;
        Datum *elements = nullptr;
        bool *nulls = nullptr;
        int count = 0;
        pg::call([&] {
            deconstruct_array(DatumGetArrayTypeP(datum(column)), TEXTOID, -1, false, TYPALIGN_INT,
                              &elements, &nulls, &count);
        });
        for (int i = 0; i < count; i++)
            if (!nulls[i])
                result.push_back(pg::to_string(elements[i]));
        return result;
    }

  private:
    const pg::TableRow &row_;
};

Task read_task(const pg::TableRow &table_row)
{
    const RowReader row(table_row);
    Task task;
    task.identifier = row.text(0);
    task.handler.schema = row.text(1);
    task.handler.name = row.text(2);
    task.handler.argtypes = row.text_array(3);
    if (task.has_handler())
        task.handler.sign();
    task.queue_name = row.optional_text(4);
    task.priority = row.optional_int2(5);
    task.max_attempts = row.optional_int2(6);
    task.retry_policy = row.optional_text(7);
    task.timeout_us = row.microseconds(8);
    task.run_as = pg::name_of(row.role(9));
    task.run_as_oid = pg::existing_role(row.role(9));
    task.notify_channel = row.optional_text(10).value_or(std::string(kDefaultChannel));
    task.keep_history_us = row.microseconds(12);
    task.handler.is_procedure = DatumGetBool(row.datum(13));
    if (!row.is_null(14))
        task.handler.owner = pg::existing_role(row.role(14));
    task.savepoint_per_job = DatumGetBool(row.datum(15));
    return task;
}

/* A row of backfill.hook. */
Hook read_hook(const RowReader &row)
{
    Hook hook;
    hook.function.schema = row.text(2);
    hook.function.name = row.text(3);
    hook.function.argtypes = {"jsonb"};
    hook.function.sign();
    hook.task_identifier = row.text(4);
    hook.run_as = pg::name_of(row.role(5));
    hook.run_as_oid = pg::existing_role(row.role(5));
    hook.search_path = row.text(6);
    if (!row.is_null(7))
        hook.function.owner = pg::existing_role(row.role(7));
    return hook;
}

core::RetryPolicy read_policy(const RowReader &row)
{
    return {DatumGetInt16(row.datum(1)), row.microseconds(2), row.microseconds(3),
            DatumGetFloat8(row.datum(4)), DatumGetFloat8(row.datum(5))};
}

} // namespace

std::shared_ptr<const Config> Config::load()
{
    outdated.set_relations({pg::relation_oid("task"), pg::relation_oid("retry_policy"),
                            pg::relation_oid("producer"), pg::relation_oid("error_rule"),
                            pg::relation_oid("hook")});

    auto loaded = std::make_shared<Config>();
    const pg::TableRows tasks = pg::read_table(task_table);
    for (int i = 0; i < tasks.count; i++)
        loaded->tasks_.push_back(read_task(tasks.rows[i]));
    for (const Task &task : loaded->tasks_)
        loaded->task_by_name_.emplace(task.identifier, &task);

    const pg::TableRows policies = pg::read_table(policy_table);
    for (int i = 0; i < policies.count; i++) {
        const RowReader row(policies.rows[i]);
        loaded->policies_.emplace_back(row.text(0), read_policy(row));
    }
    const pg::TableRows producers = pg::read_table(producer_table);
    for (int i = 0; i < producers.count; i++) {
        const RowReader row(producers.rows[i]);
        const Oid role = pg::existing_role(row.role(0));
        if (!OidIsValid(role))
            continue;
        const std::vector<std::string> allowed = row.text_array(1);
        loaded->producers_.push_back({role, row.is_null(1), {allowed.begin(), allowed.end()}});
    }
    loaded->owner_ = pg::extension_owner();
    loaded->error_rules_.add_builtin();
    const pg::TableRows rules = pg::read_table(rule_table);
    for (int i = 0; i < rules.count; i++) {
        const RowReader row(rules.rows[i]);
        loaded->error_rules_.add(
            {DatumGetInt32(row.datum(0)), row.text(1), row.text(2), row.text(3),
             core::error_class_from_name(row.text(4)).value_or(core::ErrorClass::kRetry), false});
    }
    const pg::TableRows hooks = pg::read_table(hook_table);
    std::vector<std::pair<int, std::pair<core::HookEvent, Hook>>> ordered;
    for (int i = 0; i < hooks.count; i++) {
        const RowReader row(hooks.rows[i]);
        const auto event = core::hook_event_from_name(row.text(1));
        if (event)
            ordered.push_back({DatumGetInt32(row.datum(0)), {*event, read_hook(row)}});
    }
    std::sort(ordered.begin(), ordered.end(),
              [](const auto &a, const auto &b) { return a.first < b.first; });
    for (auto &[id, hook] : ordered)
        loaded->hooks_[static_cast<std::size_t>(hook.first)].push_back(std::move(hook.second));
    return loaded;
}

bool Config::has_run_hooks() const
{
    using core::HookEvent;
    constexpr HookEvent kOfRuns[] = {HookEvent::kBeforeJobRun, HookEvent::kAfterJobRun,
                                     HookEvent::kJobStart,     HookEvent::kJobComplete,
                                     HookEvent::kJobFail,      HookEvent::kJobPermanentlyFail};
    return std::any_of(std::begin(kOfRuns), std::end(kOfRuns),
                       [&](HookEvent event) { return !hooks(event).empty(); });
}

const Task *Config::find_task(std::string_view identifier) const
{
    const auto found = task_by_name_.find(identifier);
    return found == task_by_name_.end() ? nullptr : found->second;
}

std::optional<core::RetryPolicy> Config::find_policy(std::string_view name) const
{
    for (const auto &[policy_name, policy] : policies_)
        if (policy_name == name)
            return policy;
    return core::preset_policy(name);
}

bool Config::may_enqueue(Oid role, std::string_view task_identifier) const
{
    if (pg::call([&] { return superuser_arg(role); }))
        return true;
    for (const Producer &producer : producers_)
        if ((producer.all_tasks || producer.tasks.count(std::string(task_identifier)) > 0) &&
            pg::call([&] { return has_privs_of_role(role, producer.role); }))
            return true;
    return pg::call([&] { return has_privs_of_role(role, owner_); });
}

std::shared_ptr<const Config> config()
{
    if (outdated.is_set() || current() == nullptr) {
        pg::InvalidationFlag::Reading reading(outdated);
        current() = Config::load();
        reading.note_success();
    }
    return current();
}

core::RetryPolicy policy_of(const Config &config, std::string_view name)
{
    if (const auto policy = config.find_policy(name))
        return *policy;
    return *config.find_policy(core::preset_policies().front().name);
}

void init_config()
{
    outdated.register_for_relations();
    /* A role was renamed or dropped: it has another name now, or no role has its oid. */
    outdated.register_for_catalog(AUTHOID);
}

} // namespace backfill::queue

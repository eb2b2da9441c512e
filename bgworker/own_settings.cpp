/* own_settings.cpp - see own_settings.hpp. */
#include "backfill/bgworker/own_settings.hpp"

#include "backfill/pg/guard.hpp"

namespace backfill::bgworker::own_settings
{

namespace
{

/* Whatever they do, they never wait long for a lock: the transaction that has it may be
 * idle for hours. What could not be done is done another time. */
constexpr char kLockTimeout[] = "50ms";

constexpr const char *kOwn[][2] = {
    {"role", "none"},
    {"search_path", "pg_catalog, pg_temp"},
    {"session_replication_role", "origin"},
    {"default_transaction_isolation", "read committed"},
    {"default_transaction_read_only", "off"},
    {"default_transaction_deferrable", "off"},
    {"lock_timeout", kLockTimeout},
    {"statement_timeout", "0"},
    {"idle_in_transaction_session_timeout", "0"},
    {"idle_session_timeout", "0"},
#if PG_VERSION_NUM >= 170000
    {"transaction_timeout", "0"},
#endif
    /* As autovacuum: no standby that is away may stop them. */
    {"synchronous_commit", "local"},
    /* Worker slots are for executors. */
    {"max_parallel_workers_per_gather", "0"},
    /* health() sees by it whether a pass takes long. */
    {"track_activities", "on"},
};

struct Value {
    const char *name;
    const char *value;
};
Value *servers = nullptr;
int server_count = 0;
bool any_overridden = false;

bool is_for_sessions(const config_generic &setting)
{
    return setting.context >= PGC_SUSET && strncmp(setting.name, "backfill.", 9) != 0 &&
           strcmp(setting.name, "client_encoding") != 0;
}

bool comes_from_database_or_role(GucSource source)
{
    return source == PGC_S_GLOBAL || source == PGC_S_DATABASE || source == PGC_S_USER ||
           source == PGC_S_DATABASE_USER;
}

/* Before the login: what is there now is what the server's configuration says. */
void keep_server_values()
{
    int count;
    config_generic **const settings = pg::settings(&count);
    servers = static_cast<Value *>(MemoryContextAlloc(TopMemoryContext, sizeof(Value) * count));
    for (int i = 0; i < count; i++) {
        if (!is_for_sessions(*settings[i]))
            continue;
        const char *const value = GetConfigOption(settings[i]->name, true, false);
        if (value != nullptr)
            servers[server_count++] = {settings[i]->name,
                                       MemoryContextStrdup(TopMemoryContext, value)};
    }
}

const char *server_value(const char *name)
{
    for (int i = 0; i < server_count; i++)
        if (strcmp(servers[i].name, name) == 0)
            return servers[i].value;
    return nullptr;
}

void override_setting(const char *name, const char *value)
{
    SetConfigOption(name, value, PGC_POSTMASTER, PGC_S_OVERRIDE);
}

void go_back_to_servers()
{
    int count;
    config_generic **const settings = pg::settings(&count);
    for (int i = 0; i < count; i++) {
        if (!comes_from_database_or_role(settings[i]->source))
            continue;
        const char *const value =
            is_for_sessions(*settings[i]) ? server_value(settings[i]->name) : nullptr;
        if (value == nullptr)
            continue;
        override_setting(settings[i]->name, value);
        any_overridden = true;
    }
}

} // namespace

void remember_servers()
{
    pg::call([] { keep_server_values(); });
}

void take()
{
    pg::call([] {
        go_back_to_servers();
        for (const auto &[name, value] : kOwn)
            override_setting(name, value);
    });
}

bool are_outdated()
{
    return any_overridden;
}

} // namespace backfill::bgworker::own_settings

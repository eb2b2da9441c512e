#!/bin/bash
# Whether `make installcheck` can pass on the server that libpq's variables name; says what to do if not.
# Executors would take the jobs that the scripts mean to run themselves, and the scripts would wait
# for ever.
set -euo pipefail

refuse() {
    printf 'error: %s\n' "$1" >&2
    printf '%s\n' "${@:2}" 'Or run "test/lib/run.sh regress" and "test/lib/run.sh isolation": they make a server of their own.' >&2
    exit 1
}

if ! settings=$("$("${PG_CONFIG:-pg_config}" --bindir)/psql" -XqAt -d "${PGDATABASE:-postgres}" -c "
        SELECT current_setting('is_superuser'), coalesce(current_setting('backfill.max_executors', true), ''),
               current_setting('max_prepared_transactions'), coalesce(current_setting('backfill.cron_clock', true), '')"); then
    refuse 'there is no server that the tests could use' \
        "PGHOST, PGPORT, PGUSER and PGPASSWORD say where it is; the role must be a superuser$([[ $(id -u) != 0 ]] || printf ' (root needs one of its own, or PGUSER)')."
fi
IFS='|' read -r superuser executors prepared clock <<<"$settings"
[[ $superuser == on ]] || refuse 'the tests need a superuser' 'PGUSER names another role.'
[[ -n $executors ]] || refuse 'this server does not preload the library' \
    "Put backfill into its shared_preload_libraries and restart it."
[[ $executors == 0 ]] || refuse "the executors of this server (backfill.max_executors = $executors) would run the tests' jobs" \
    'ALTER SYSTEM SET backfill.max_executors = 0; SELECT pg_reload_conf(); holds the jobs of all its databases until it is set back.'
((prepared > 0)) || refuse 'the tests prepare transactions, and max_prepared_transactions is 0' 'Set it to 10 and restart the server.'
[[ $clock == external ]] || refuse "the clock of this server (backfill.cron_clock = $clock) would follow the tests' schedules" \
    "ALTER SYSTEM SET backfill.cron_clock = 'external'; SELECT pg_reload_conf(); stops the schedules of all its databases until it is set back."

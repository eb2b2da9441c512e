#!/bin/bash
# pg_upgrade from PostgreSQL 15 to 17 and on to 18, with jobs in every state, in a database that was updated
# and in one that still has the objects of 0.1.0; and the same databases dumped by 18 and restored there.
# The machine is of Debian sid, which has 18; the other servers come from the releases that have them.
source /src/backfill/test/install/on_machine/lib.sh

first=0.1.0
majors=(15 17 18)
line=$(grep -m 1 '^deb ' /etc/apt/sources.list)
for suite in bookworm trixie; do
    sed -E "s/^(deb ([[][^]]*[]] )?[^ ]+) sid /\1 $suite /" <<<"$line" >"/etc/apt/sources.list.d/$suite.list"
    printf 'Package: *\nPin: release n=%s\nPin-Priority: 100\n' "$suite" >"/etc/apt/preferences.d/$suite"
done
must 'the lists of the older releases can be fetched' apt-get update -qq
must 'a compiler is installed' apt_install make g++ libboost-dev
mkdir -p /etc/postgresql-common /headers
echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
for major in "${majors[@]}"; do
    must "PostgreSQL $major is installed" apt_install "postgresql-$major"
    # Only the files: what the package needs, another compiler among it, the releases have in different versions.
    must "and its headers" bash -c "cd /headers && apt-get download -qq postgresql-server-dev-$major && dpkg -x postgresql-server-dev-${major}_*.deb /"
    bin=/usr/lib/postgresql/$major/bin
    # Without optimization, which takes most of the time and is no matter here.
    must "backfill is built for $major, and installed" bash -c "make -s -j$(nproc) PG_CONFIG=$bin/pg_config COPT='-O0 -g0 -U_FORTIFY_SOURCE' all && make -s PG_CONFIG=$bin/pg_config COPT='-O0 -g0 -U_FORTIFY_SOURCE' install"
done

# --- Servers -----------------------------------------------------------------------------------------

cd /tmp || exit
bin() { printf '/usr/lib/postgresql/%s/bin/%s' "$1" "$2"; }
data() { printf '/var/lib/postgresql/data-%s' "$1"; }
as_postgres() { runuser -u postgres -- "$@"; }
# make_cluster MAJOR: a cluster whose server preloads the library, and needs no pg_cron.
make_cluster() {
    as_postgres "$(bin "$1" initdb)" -D "$(data "$1")" --auth=trust --encoding=UTF8 --locale=C.UTF-8 --data-checksums &&
        printf '%s\n' "port = 54$1" "unix_socket_directories = '/tmp'" "listen_addresses = ''" "shared_preload_libraries = 'backfill'" \
            'max_worker_processes = 16' "backfill.poll_interval = '100ms'" >>"$(data "$1")/postgresql.conf"
}
start() { as_postgres "$(bin "$1" pg_ctl)" -D "$(data "$1")" -l "/tmp/server-$1.log" -w -o "${2:-}" start; }
stop() { as_postgres "$(bin "$1" pg_ctl)" -D "$(data "$1")" -w -m "${2:-fast}" stop; }
# Without the library nothing runs, and nothing is looked after: what is in the tables stays as it is.
idle='-c shared_preload_libraries='
# psql_on MAJOR DATABASE ARGUMENT...
psql_on() {
    local major=$1 database=$2
    shift 2
    as_postgres "$(bin 18 psql)" -XqAt -v ON_ERROR_STOP=1 -h /tmp -p "54$major" -d "$database" "$@" 2>&1
}
# Everything that a database has of the extension: the rows of all tables, where the sequences stand, and rights.
everything() {
    psql_on "$1" "$2" <<'SQL'
SET client_min_messages = error;
SELECT coalesce(string_agg(format('SELECT %L, r::text FROM (SELECT %s FROM %s) r', c.relname, columns, c.oid::regclass), ' UNION ALL '), '') AS tables
  FROM pg_class c CROSS JOIN LATERAL (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attname) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
       AND NOT EXISTS (SELECT FROM new_column n WHERE n.relname = c.relname AND n.attname = pg_attribute.attname)) a (columns)
 WHERE relnamespace = 'backfill'::regnamespace AND relkind = 'r' AND NOT EXISTS (SELECT FROM new_column n WHERE n.relname = c.relname AND n.attname = '') \gset
SELECT 'SELECT ''rows of '' || t.name, t.fact FROM (' || :'tables' || ') t (name, fact) ORDER BY 1, 2' \gexec
SELECT 'sequence', sequencename, last_value FROM pg_sequences WHERE schemaname = 'backfill' ORDER BY 2;
SELECT 'right', r.rolname, x.name FROM pg_roles r,
       (SELECT p.oid::regprocedure::text, has_function_privilege(q.oid, p.oid, 'EXECUTE'), q.oid FROM pg_proc p, pg_roles q WHERE p.pronamespace = 'backfill'::regnamespace
        UNION ALL SELECT c.oid::regclass::text, has_table_privilege(q.oid, c.oid, 'SELECT'), q.oid FROM pg_class c, pg_roles q WHERE c.relnamespace = 'backfill'::regnamespace AND relkind IN ('r', 'v')) x (name, granted, role)
 WHERE x.role = r.oid AND x.granted AND NOT r.rolsuper AND r.rolname !~ '^pg_' AND NOT EXISTS (SELECT FROM new_object n WHERE n.name = x.name) ORDER BY 2, 3;
SQL
}
# What 0.1.0 has not, so that a database of it can be compared with one that has been updated or restored.
remember_objects() {
    psql_on "$1" "$2" <<'SQL'
CREATE TABLE new_column (relname name, attname name);
CREATE TABLE new_object (name text);
CREATE TABLE first_column AS SELECT relname, attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE relnamespace = 'backfill'::regnamespace AND relkind = 'r' AND attnum > 0;
CREATE TABLE first_object AS SELECT oid::regprocedure::text AS name FROM pg_proc WHERE pronamespace = 'backfill'::regnamespace
    UNION ALL SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'backfill'::regnamespace;
SQL
}
note_new_objects() {
    psql_on "$1" "$2" <<'SQL'
INSERT INTO new_column SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE relnamespace = 'backfill'::regnamespace AND relkind = 'r' AND attnum > 0
    EXCEPT SELECT relname, attname FROM first_column;
INSERT INTO new_column SELECT relname, '' FROM pg_class WHERE relnamespace = 'backfill'::regnamespace AND relkind = 'r' EXCEPT SELECT relname, '' FROM first_column;
INSERT INTO new_object SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'backfill'::regnamespace
    UNION ALL SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'backfill'::regnamespace EXCEPT SELECT name FROM first_object;
SQL
}
updates_extension() {
    psql_on "$1" "$2" -c 'ALTER EXTENSION backfill UPDATE' && note_new_objects "$1" "$2" &&
        [[ $(psql_on "$1" "$2" -c "SELECT extversion FROM pg_extension WHERE extname = 'backfill'") == "$version" ]]
}

# --- PostgreSQL 15, and jobs in every state ----------------------------------------------------------

must 'a cluster of 15 is made' make_cluster 15
must 'its server starts, with the library' start 15
psql_on 15 postgres -c 'CREATE ROLE producer LOGIN' -c 'CREATE ROLE consumer LOGIN' -c 'CREATE ROLE monitor LOGIN' -c 'CREATE ROLE admin LOGIN' \
    -c 'CREATE ROLE app LOGIN' >/dev/null
for database in updated old; do
    psql_on 15 postgres -c "CREATE DATABASE $database"
    psql_on 15 "$database" -c "CREATE EXTENSION backfill VERSION '$first'"
    remember_objects 15 "$database"
    psql_on 15 "$database" <<'SQL'
SELECT backfill.grant_producer('producer', '{work}'), backfill.grant_consumer('consumer'), backfill.grant_monitor('monitor'), backfill.grant_admin('admin') \g /dev/null
SQL
done
must 'one database is updated' updates_extension 15 updated

# define DATABASE, fill DATABASE: what it has is said by everything().
define() {
    psql_on 15 "$1" >/tmp/define.log <<'SQL'
CREATE TABLE ran (what text);
GRANT INSERT ON ran TO app;
CREATE VIEW all_ran AS SELECT string_agg(what, ',' ORDER BY what) FROM ran;
CREATE VIEW states AS SELECT string_agg(n || ' ' || state, ', ' ORDER BY state) FROM (
    SELECT CASE WHEN lease_expires_at = 'infinity' THEN 'claimed' WHEN lease_expires_at IS NOT NULL THEN 'leased' WHEN run_at > now() THEN 'scheduled' ELSE 'waiting' END, count(*)
      FROM backfill.job GROUP BY 1) s (state, n);
CREATE TABLE gate ();
CREATE FUNCTION work(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.ran VALUES (payload->>'what') $$;
CREATE PROCEDURE steps(payload jsonb) LANGUAGE plpgsql AS $$ BEGIN COMMIT; LOCK TABLE public.gate; INSERT INTO public.ran VALUES (payload->>'what'); END $$;
CREATE FUNCTION watch(event jsonb) RETURNS void LANGUAGE sql AS '';
SELECT backfill.set_retry_policy('mine', 4, '1 s', '1 min', 3, 0.2), backfill.set_queue('limited', 2, 5, '1 s', 100);
SELECT backfill.register_task('work', 'work(jsonb)', retry_policy => 'mine', keep_history => '1 year', run_as => 'app'),
       backfill.register_task('steps', 'steps(jsonb)'), backfill.register_task('outside');
SELECT backfill.register_hook('job_start', 'watch(jsonb)', 'work');
SQL
}
fill() {
    psql_on 15 "$1" >/tmp/fill.log <<'SQL'
SELECT backfill.schedule('yearly', '0 0 1 1 *', 'work', '{"what": "yearly"}', time_zone => 'Europe/Berlin');
SELECT backfill.enqueue('outside', '{"what": "leased"}', queue_name => 'limited', priority => -10);
SELECT backfill.claim_jobs('a consumer', tasks => '{outside}', lease => '1 year');
SELECT backfill.enqueue('work', '{"what": "dead"}') AS id \gset
SELECT backfill.add_to_dlq(:id, 'planted');
SELECT backfill.enqueue('work', '{"what": "waiting"}', job_key => 'key', headers => '{"traceparent": "00-1"}');
SELECT backfill.enqueue('work', '{"what": "scheduled"}', run_at => '2100-01-01');
SELECT backfill.enqueue_serial('work', '{"what": "serial"}', 'one by one');
SELECT backfill.enqueue('outside', '{"what": "outside"}');
SQL
}
for database in updated old; do
    must "$database: tasks and settings" define "$database"
done

# A procedure runs when the server ends; its claim stays. The other database has no executors, and gets the row by hand.
mkfifo /tmp/holder
as_postgres "$(bin 15 psql)" -XqAt -h /tmp -p 5415 -d updated </tmp/holder >/dev/null 2>&1 &
exec 7>/tmp/holder
echo 'BEGIN; LOCK TABLE gate;' >&7
locks="SELECT count(*) FROM pg_locks WHERE relation = 'gate'::regclass AND mode = 'AccessExclusiveLock'"
wait_for '[[ $(psql_on 15 updated -c "$locks") == 1 ]]' 'a session holds the lock that the procedure wants'
psql_on 15 updated -c "SELECT backfill.enqueue('steps', '{\"what\": \"procedure\"}')" \
    -c 'ALTER SYSTEM RESET backfill.max_executors' -c 'SELECT pg_reload_conf()' >/dev/null
wait_for '[[ $(psql_on 15 updated -c "$locks") == 2 ]]' 'the procedure runs' /tmp/server-15.log
must 'the server is ended as by a power failure' stop 15 immediate
exec 7>&-
wait
must 'and starts without the library' start 15 "$idle"
psql_on 15 old -c "SELECT backfill.enqueue('steps', '{\"what\": \"procedure\"}')" \
    -c "UPDATE backfill.job SET lease_expires_at = 'infinity', claim_token = nextval('backfill.claim_token_seq'), attempts = 1" >/dev/null
for database in updated old; do
    must "$database: jobs are enqueued, leased, scheduled, dead" fill "$database"
done
declare -A before
for database in updated old; do
    before[$database]=$(everything 15 "$database")
    like "${before[$database]}" '*rows of cron_schedule|*rows of dead_letter|*rows of hook|*rows of job|*rows of producer|*rows of queue|*rows of retry_policy|*rows of task|*sequence|*right|*' "$database has something of everything"
    is "$(psql_on 15 "$database" -c 'TABLE states')" '1 claimed, 1 leased, 1 scheduled, 3 waiting' "$database: a job of each state"
done

# Dumps of both, by the newest pg_dump.
for database in updated old; do
    try "$database is dumped by 18" as_postgres "$(bin 18 pg_dump)" -h /tmp -p 5415 -Fc -f "/tmp/$database.dump" "$database"
done
as_postgres "$(bin 18 pg_dumpall)" -h /tmp -p 5415 --roles-only >/tmp/roles.sql
try 'the server is stopped' stop 15

# --- pg_upgrade --------------------------------------------------------------------------------------

# upgrade OLD NEW [OPTION]
upgrade() {
    (cd /var/lib/postgresql && as_postgres "$(bin "$2" pg_upgrade)" -b "/usr/lib/postgresql/$1/bin" -B "/usr/lib/postgresql/$2/bin" \
        -d "$(data "$1")" -D "$(data "$2")" -o "$idle" -O "$idle" "${@:3}")
}
# With the library preloaded, as a server in use has it.
upgrade_preloaded() {
    (cd /var/lib/postgresql && as_postgres "$(bin "$2" pg_upgrade)" -b "/usr/lib/postgresql/$1/bin" -B "/usr/lib/postgresql/$2/bin" -d "$(data "$1")" -D "$(data "$2")")
}

must 'a cluster of 17 is made' make_cluster 17
library=/usr/lib/postgresql/17/lib/backfill.so
mv "$library" "$library.away"
said=$(upgrade 15 17 --check 2>&1)
like "$said" '*Checking for presence of required libraries*fatal*' 'without the library pg_upgrade stops'
like "$(cat /var/lib/postgresql/data-17/pg_upgrade_output.d/*/loadable_libraries.txt 2>/dev/null)" '*backfill*In database: *' '... and says which database needs it'
mv "$library.away" "$library"
for step in '15 17' '17 18'; do
    read -r from to <<<"$step"
    [[ $to == 17 ]] || must "a cluster of $to is made" make_cluster "$to"
    must "pg_upgrade from $from to $to, with the library preloaded" upgrade_preloaded "$from" "$to"
    must "the server of $to starts" start "$to" "$idle"
    like "$(psql_on "$to" postgres -c 'SHOW server_version')" "$to*" 'it is the new one'
    for database in updated old; do
        is "$(diff <(echo "${before[$database]}") <(everything "$to" "$database"))" '' "$database: every job, dead letter, schedule, hook, setting and right is as it was"
    done
    is "$(psql_on "$to" old -c "SELECT extversion FROM pg_extension WHERE extname = 'backfill'")" "$first" 'the database that was not updated has the old objects'
    must "the server of $to is stopped" stop "$to"
done

# --- What was carried over runs ----------------------------------------------------------------------

must 'the server of 18 starts, with the library' start 18
# The other database has to be updated first.
must 'the old database is updated on 18' updates_extension 18 old
# Jobs run at once, and take their rows, write history, count tokens.
without_jobs() { grep -v '^rows of \(job\|job_history\)|\|^sequence|'; }
is "$(diff <(without_jobs <<<"${before[old]}") <(everything 18 old | without_jobs))" '' 'all that is not a job is as it was'
# After pg_upgrade the row types of tables are members of the extension, and what 15 has printed of views and of functions in
# SQL, and 18 has read, is printed by 18 in a few other words.
catalog() {
    psql_on 18 "$1" -f /src/backfill/test/lib/catalog.sql | grep -vE ' for (producer|consumer|monitor|admin|app) from ' |
        sed -E 's/^((composite )?type .*: there), of the extension$/\1/; s/^(view .*: definition|function .*, definition) .*/\1/'
}
psql_on 18 postgres -c 'CREATE DATABASE fresh' && psql_on 18 fresh -c 'CREATE EXTENSION backfill'
ok "$( (($(catalog fresh | wc -l) > 2000)) && echo yes)" "the catalogs of 18 know a fresh extension"
for database in updated old; do
    is "$(diff <(catalog fresh) <(catalog "$database") | head -n 40)" '' "$database: and the same of this one"
done
# runs_all DATABASE NAME: assertions: every job comes to its end, once.
ran() { psql_on 18 "$1" -c 'TABLE all_ran'; }
runs_all() {
    local leased
    wait_for "[[ \$(ran $1) == procedure,serial,waiting ]]" "$2: what waited runs, also the procedure whose executor is gone" /tmp/server-18.log
    leased=$(psql_on 18 "$1" -c "SELECT count(c) FROM backfill.job, backfill.complete_jobs(array[id], claim_token) c WHERE worker = 'a consumer'")
    is "$leased" 1 "$2: the consumer completes its job by its token"
    psql_on 18 "$1" -c 'SELECT backfill.requeue_dlq_job(id) FROM backfill.dlq' -c "UPDATE backfill.cron_schedule SET checked_until = '2099-12-31 23:59 Europe/Berlin'" \
        -c "SELECT backfill._cron_tick('2100-01-01 00:00:30 Europe/Berlin')" -c 'UPDATE backfill.job SET run_at = now() WHERE run_at > now()' >/dev/null
    wait_for "[[ \$(ran $1) == dead,procedure,scheduled,serial,waiting,yearly ]]" "$2: the scheduled job, the dead one, and the schedule's, too; each once" /tmp/server-18.log
    is "$(psql_on 18 "$1" -c "SELECT string_agg(payload->>'what', ',') FROM backfill.job")" outside "$2: the external task's other job waits"
    is "$(psql_on 18 "$1" -c "SELECT string_agg(check_name || ': ' || detail, ',') FROM backfill.health() WHERE status = 'critical'")" '' "$2: health() finds nothing critical"
}
runs_all updated 'pg_upgrade'
runs_all old 'pg_upgrade of 0.1.0'
is "$(psql_on 18 old -U producer -c "SELECT backfill.enqueue('work', run_at => 'tomorrow') > 0")" t 'a producer may still enqueue its task'
like "$(psql_on 18 old -U producer -c "SELECT backfill.enqueue('steps')")" '*permission denied*' 'and no other'

# --- Dump and restore --------------------------------------------------------------------------------

psql_on 18 postgres -c 'ALTER SYSTEM SET backfill.max_executors = 0' -c 'ALTER SYSTEM SET backfill.cron_clock = external' -c 'SELECT pg_reload_conf()' >/dev/null
for database in updated old; do
    psql_on 18 postgres -c "CREATE DATABASE restored_$database" >/dev/null
    try "$database: the dump of 15 is restored on 18" as_postgres "$(bin 18 pg_restore)" -h /tmp -p 5418 --exit-on-error -d "restored_$database" "/tmp/$database.dump"
    [[ $database != old ]] || note_new_objects 18 restored_old
    is "$(psql_on 18 "restored_$database" -c "SELECT extversion FROM pg_extension WHERE extname = 'backfill'")" "$version" 'it is of the new version'
done
# The dispatcher has released the procedure's job, no sequence stands behind, and rates of queues are counted from the restore on.
without_claims() { grep -v '^rows of job|.*procedure\|^sequence|' | sed -E '/^rows of queue\|/s/"[0-9 :.+-]+"//'; }
for database in updated old; do
    is "$(diff <(without_claims <<<"${before[$database]}") <(everything 18 "restored_$database" | without_claims))" '' "$database: every job, dead letter, schedule, hook, setting and right is as it was"
done
psql_on 18 postgres -c 'ALTER SYSTEM RESET backfill.max_executors' -c 'SELECT pg_reload_conf()' >/dev/null
runs_all restored_updated 'a restore'
runs_all restored_old 'a restore of 0.1.0'

ok "$(grep -qE 'PANIC|TRAP|terminated by signal|ERROR:  XX' /tmp/server-1[78].log || echo yes)" 'no process crashed'
try 'the server is stopped' stop 18
done_testing

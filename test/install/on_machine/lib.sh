# shellcheck shell=bash
# What the scripts that run on a fresh machine have in common. They print TAP. Source it.
set -uo pipefail
source /src/backfill/test/lib/tap.sh
log=/tmp/log
version=$(sed -n "s/^default_version = '\(.*\)'/\1/p" /src/backfill/backfill.control)

# try NAME COMMAND...: an assertion: the command succeeds.
try() {
    local name=$1 status=0
    shift
    "$@" >"$log" 2>&1 </dev/null || status=$?
    verdict "$( ((status == 0)) && echo yes)" "$name" "$(tail -n 40 "$log")"
    return "$status"
}
# The same for what all the rest needs.
must() { try "$@" || done_testing; }

apt_install() { apt-get install -y -qq --no-install-recommends "$@"; }
must 'the package lists can be fetched' apt-get update -qq

# The server that is installed: its major version.
server_major() { find /usr/lib/postgresql -path '*/bin/postgres' | sed -E 's|.*/([0-9]+)/bin/postgres$|\1|' | sort -n | tail -n 1; }
# The major version of the release's server.
release_major() { apt-cache depends postgresql | sed -nE 's/^ *Depends: postgresql-([0-9]+)$/\1/p' | head -n 1; }

sql() { runuser -u postgres -- psql -XqAt -v ON_ERROR_STOP=1 "$@"; }

# What README.md says to do after the installation: a cluster, the settings, a restart.
preload() {
    local major
    major=$(server_major)
    [[ -n $(pg_lsclusters -h) ]] || pg_createcluster "$major" main
    pg_conftool "$major" main set shared_preload_libraries backfill
    pg_conftool "$major" main set max_worker_processes 16
    pg_ctlcluster "$major" main restart
}

# An assertion: a job runs, in a process of the server's own. job_runs NAME
job_runs() {
    local answer
    answer=$(sql 2>&1 <<'SQL'
SET client_min_messages = warning;
CREATE EXTENSION backfill;
CREATE TABLE ran (note text, pid int);
CREATE FUNCTION note_it(payload jsonb) RETURNS void LANGUAGE sql
    AS $$ INSERT INTO public.ran VALUES (payload ->> 'note', pg_backend_pid()) $$;
SELECT backfill.register_task('note_it', 'note_it(jsonb)') \g /dev/null
SELECT backfill.enqueue('note_it', '{"note": "hello"}') AS id \gset
CALL backfill.await_job(:id, '60 seconds') \g /dev/null
SELECT note, pid <> pg_backend_pid() FROM ran;
SQL
    )
    is "$answer" 'hello|t' "$1"
    is "$(sql -c 'SELECT backfill.version()' 2>&1)" "$version" 'the version that is loaded is that of the tree'
}

# What docs/setup.md says to do before the library is removed.
unload() {
    local major
    major=$(server_major)
    sql -c 'DROP EXTENSION backfill' && pg_conftool "$major" main remove shared_preload_libraries &&
        pg_ctlcluster "$major" main restart
}

# Files of ours that are there. What the server keeps in its data directory stays with the data.
files_of_ours() { find /usr /etc /var -xdev -path /var/lib/postgresql -prune -o -name '*backfill*' -print; }

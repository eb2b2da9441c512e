#!/bin/bash
# Installs Debian's packages from /in/1, runs a job, upgrades to those in /in/2, purges them.
source /src/backfill/test/install/on_machine/lib.sh

major=$(release_major)
package=postgresql-$major-backfill
must "apt installs $package and a server" apt_install "/in/1/${package}_"*.deb
is "$(command -v g++ make)" '' 'without a compiler'
like "$(pg_lsclusters -h)" "$major main *" "Debian's own cluster is there"
must 'the library is preloaded' preload
job_runs 'a job runs'

# A job waits while the package is upgraded.
sql -c 'ALTER SYSTEM SET backfill.max_executors = 0' -c 'SELECT pg_reload_conf()' >/dev/null
sql -c "SELECT backfill.enqueue('note_it', '{\"note\": \"waited\"}')" >/dev/null
must 'apt upgrades it' apt_install "/in/2/${package}_"*.deb
like "$(dpkg-query -W -f '${Version}' "$package")" "$version-*+again" 'the new revision is installed'
is "$(sql -c 'SELECT count(*) FROM backfill.jobs')" 1 'the job still waits'
try 'the server restarts' pg_ctlcluster "$major" main restart
sql -c 'ALTER SYSTEM RESET backfill.max_executors' -c 'SELECT pg_reload_conf()' >/dev/null
wait_for '[[ $(sql -c "SELECT count(*) FROM backfill.jobs") == 0 ]]' 'and is run' "$log"
is "$(sql -c "SELECT count(*) FROM ran WHERE note = 'waited'")" 1 'once'

must 'the extension is dropped, and the server starts without the library' unload
try 'apt purges it' apt-get purge -y -qq "$package"
is "$(files_of_ours)" '' 'no file is left'
is "$(sql -c 'SELECT count(*) FROM ran')" 2 "the server goes on, with the users' tables"
done_testing

#!/bin/bash
# Installs from source with the packages and the commands that README.md or docs/setup.md names.
source /src/backfill/test/install/on_machine/lib.sh

command='make && make install'
ok "$(grep -qhE "^    $command( |\$)" README.md docs/setup.md && echo yes)" "they say to run \"$command\""
major=$(release_major)
# They name the packages for Debian's PostgreSQL 15; this may be another one.
read -ra packages <<<"$(grep -oE '`(postgresql-server-dev-15|libboost-dev|g\+\+)`' README.md docs/setup.md -h | tr -d '`' | sort -u | sed "s/-15$/-$major/" | paste -s -d ' ')"
is "${#packages[@]}" 3 'and to install a compiler, the headers of Boost and of the server'
# A machine where no cluster is made by itself, as after "make demo".
ok "$([[ $(grep -lE 'pg_createcluster 15 main' README.md docs/setup.md | wc -l) == 2 ]] && echo yes)" 'and how to make a cluster'
mkdir -p /etc/postgresql-common/createcluster.d
echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/none.conf
must 'they are installed, and a server' apt_install make "postgresql-$major" "${packages[@]}"
must "$command" env MAKEFLAGS="-j$(nproc)" sh -c "$command"
is "$(pg_lsclusters -h)" '' 'there is no cluster'
must 'the library is preloaded, in one that is made' preload
job_runs 'a job runs'
must 'the extension is dropped, and the server starts without the library' unload
try 'make uninstall' make -s uninstall
is "$(files_of_ours)" '' 'leaves no file'
done_testing

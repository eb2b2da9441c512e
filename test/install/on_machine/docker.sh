#!/bin/bash
# Does what Dockerfile says, step by step, on a machine with what the official image has: a server. Then
# starts it as compose.yaml does.
source /src/backfill/test/install/on_machine/lib.sh

PG_MAJOR=$(release_major)
export PG_MAJOR
must 'a server is installed' apt_install "postgresql-$PG_MAJOR" locales
pg_dropcluster --stop "$PG_MAJOR" main
rm -rf /var/lib/apt/lists/*
PATH=/usr/lib/postgresql/$PG_MAJOR/bin:$PATH

# The instructions, one a line: no comments, lines that end in a backslash joined with the next one.
mapfile -t instructions < <(sed -e '/^ *#/d' -e '/^ *$/d' Dockerfile | sed -e ':a' -e '/\\$/{N;s/\\\n//;ba}')
steps=0
for instruction in "${instructions[@]}"; do
    read -r keyword arguments <<<"$instruction"
    case $keyword in
    ARG) like "$arguments" 'PG_MAJOR*' 'Dockerfile: the only argument is PG_MAJOR' ;;
    FROM) is "$arguments" 'postgres:$PG_MAJOR' 'Dockerfile: it begins with the official image' ;;
    COPY)
        read -r from to <<<"$arguments"
        is "$from" . 'Dockerfile: the whole tree is copied'
        mkdir -p "$to" && cp -r /src/backfill/. "$to"
        ;;
    RUN)
        must "Dockerfile: RUN ${arguments:0:20}..." sh -c "$arguments"
        steps=$((steps + 1))
        ;;
    *) ok '' "Dockerfile: this test does not know $keyword" ;;
    esac
done
ok "$( ((steps > 0)) && echo yes)" 'Dockerfile: there are commands'
is "$(command -v make g++)$(ls /tmp/backfill /usr/include/postgresql 2>/dev/null)" '' 'nothing that only the build needed is left'
is "$(apt-mark showhold)" '' 'and no package is held'

# The entry point of the image makes a cluster and hands the command to the server's user.
command=$(sed -nE 's/^ *command: (postgres .*)/\1/p' compose.yaml)
like "$command" 'postgres *' 'compose.yaml has a command'
install -d -o postgres /data
must 'a cluster is made' runuser -u postgres -- initdb -D /data --auth=trust
read -ra words <<<"$command"
runuser -u postgres -- env PGDATA=/data "PATH=$PATH" "${words[@]}" >/tmp/server.log 2>&1 </dev/null &
wait_for 'pg_isready -q' 'the server starts' /tmp/server.log
job_runs 'a job runs'
done_testing

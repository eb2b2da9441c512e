#!/bin/bash
# Removes what a killed script could not: see cluster_set_traps() in cluster.sh. Its input are the names
# of the script's directories; the input's end is the end of the script.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"

mapfile -t directories
for dir in "${directories[@]}"; do
    # Whatever still runs in there (initdb, a test) ends without it, but may make files until then.
    for ((tries = 0; tries < 30; tries++)); do
        [[ -d $dir ]] || break
        while read -r pid_file; do
            as_server "$(server_dir bindir)/pg_ctl" -D "${pid_file%/postmaster.pid}" -m immediate -w stop
        done < <(find "$dir" -name postmaster.pid 2>/dev/null)
        rm -rf -- "$dir" && break
        sleep 1
    done
done

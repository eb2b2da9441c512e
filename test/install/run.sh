#!/bin/bash
# `make test-install`: each way to install, in fresh machines, from nothing to a job that ran. Prints TAP
# for each; the last line is "N passed, N failed", and the exit code is 0 only if nothing failed.
#
#   test/install/run.sh [WAY...]      apt pgxn destdir source docker pg_upgrade (default: all)
#
# SUITE is the release of Debian (bookworm); pg_upgrade needs sid, and takes older servers from the other
# releases. What is tested is what is committed. Each way compiles all sources at least once and needs about 3 GB below TMPDIR. The logs are kept in tmp_check/install, and
# Debian's packages, too.
set -euo pipefail
shopt -s inherit_errexit
source "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"
source "$BACKFILL_ROOT/test/install/machine.sh"

suite=${SUITE:-bookworm}
known=(apt pgxn destdir source docker pg_upgrade)
passed=0
failed=0
packages=$BACKFILL_ROOT/tmp_check/install/$suite-packages # what the one machine builds and the other installs

# run_script NAME IN OUT: a script of on_machine on a machine of its own, counted.
run_script() {
    local name=$1 log shown status=0 ok not_ok
    log=$BACKFILL_ROOT/tmp_check/install/$suite-$name.log
    mkdir -p "${log%/*}"
    say "# $name, on $suite"
    exec 5> >(exec tee "$log")
    shown=$!
    machine_run "$suite" "$2" "$3" bash "test/install/on_machine/$name.sh" >&5 2>&1 || status=$?
    exec 5>&-
    wait "$shown"
    ok=$(grep -cE '^ok [0-9]+' "$log" || true)
    not_ok=$(grep -cE '^not ok [0-9]+' "$log" || true)
    # A script may end before its plan is done.
    ((status == 0 && ok > 0)) || ((not_ok > 0)) || not_ok=1
    passed=$((passed + ok))
    failed=$((failed + not_ok))
}

run_way() {
    case $1 in
    apt)
        rm -rf -- "${packages:?}"
        mkdir -p "$packages"
        run_script build_packages '' "$packages"
        run_script apt "$packages" ''
        ;;
    pg_upgrade) suite=sid run_script pg_upgrade '' '' ;;
    *) run_script "$1" '' '' ;;
    esac
}

ways=("$@")
((${#ways[@]})) || ways=("${known[@]}")
for way in "${ways[@]}"; do
    [[ " ${known[*]} " == *" $way "* ]] || die "unknown way to install \"$way\"; there are: ${known[*]}"
done
machine_needs
for way in "${ways[@]}"; do
    run_way "$way"
done
say "$passed passed, $failed failed"
((failed == 0 && passed > 0))

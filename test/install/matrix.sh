#!/bin/bash
# `make test-matrix`: `make demo` and `make test` in a fresh Debian machine of each release, one after the
# other, as in a clone of what is committed. The machine has git, make and g++, as README.md asks. Prints a
# line for each release; the last line is the sum of all tests, and the exit code is 0 only if all passed.
#
#   test/install/matrix.sh [SUITE...]        default: bookworm (PostgreSQL 15), trixie (17), sid (18)
#
# TARGETS are make's targets ("demo test"). CONDITIONS are what is unusual about the machine, any of
#
#   no-headers   Debian's server is installed and has a cluster, without what is needed to compile
#   german       LANG is de_DE.UTF-8, and the machine has that locale
#   umask        this tree and all else is made under umask 077
#   load         ten processes that never sleep run beside it
#
# The logs are kept in tmp_check/matrix. A release takes about half an hour and 5 GB below TMPDIR.
set -euo pipefail
shopt -s inherit_errexit
source "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"
source "$BACKFILL_ROOT/test/install/machine.sh"

suites=("$@")
((${#suites[@]})) || suites=(bookworm trixie sid)
read -ra targets <<<"${TARGETS:-demo test}"
read -ra conditions <<<"${CONDITIONS:-}"
for condition in "${conditions[@]}"; do
    [[ $condition =~ ^(no-headers|german|umask|load)$ ]] || die "unknown condition \"$condition\"; there are: no-headers german umask load"
done
logs=$BACKFILL_ROOT/tmp_check/matrix
passed=0
failed=0

# The counts of a log of `make test`, "PASSED FAILED"; one failure if it did not come to its end.
counts_of() {
    local counts
    counts=$(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$1" | tail -n 1)
    printf '%s\n' "${counts:-0 1}"
}

# Runs in the machine, with the conditions in one argument and the targets after it.
# shellcheck disable=SC2016 # expanded there
in_machine='
    conditions=" $1 "
    shift
    packages="git make g++ ca-certificates"
    [[ $conditions != *" german "* ]] || packages+=" locales"
    [[ $conditions != *" no-headers "* ]] || packages+=" postgresql"
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages; } >/out/packages.log 2>&1 || exit 1
    if [[ $conditions == *" german "* ]]; then
        localedef -i de_DE -f UTF-8 de_DE.UTF-8 >>/out/packages.log 2>&1 || exit 1
        export LANG=de_DE.UTF-8
    fi
    [[ $conditions != *" umask "* ]] || chmod -R go= .
    if [[ $conditions == *" load "* ]]; then
        for _ in {1..10}; do
            (while :; do :; done) &
        done
    fi
    for target in "$@"; do
        status=0
        (
            [[ $conditions != *" umask "* ]] || umask 077
            exec make "$target"
        ) >"/out/$target.log" 2>&1 || status=$?
        echo "$status" >"/out/$target.status"
    done
    ls /usr/lib/postgresql 2>/dev/null | tail -n 1 >/out/major'

run_suite() {
    local suite=$1 target log status started counts line="$1"
    rm -rf "${logs:?}/$suite"
    mkdir -p "$logs/$suite"
    started=$SECONDS
    machine_run "$suite" '' "$logs/$suite" bash -c "$in_machine" _ "${conditions[*]}" "${targets[@]}" || warn "the machine ended early; see $logs/$suite"
    line+=" (PostgreSQL $(grep . "$logs/$suite/major" 2>/dev/null || echo '?'))${conditions[*]:+, ${conditions[*]}}"
    for target in "${targets[@]}"; do
        log=$logs/$suite/$target.log
        status=$(cat "$logs/$suite/$target.status" 2>/dev/null || echo 'not run')
        counts='1 0'
        [[ $status == 0 ]] || counts='0 1'
        [[ $target != test || ! -f $log ]] || counts=$(counts_of "$log")
        # All passed, and yet make was not content.
        [[ $status == 0 || ${counts#* } != 0 ]] || counts="${counts% *} 1"
        passed=$((passed + ${counts% *}))
        failed=$((failed + ${counts#* }))
        line+=", $target: ${counts% *} passed, ${counts#* } failed"
        [[ ${counts#* } == 0 || ! -f $log ]] || grep -E '^(not ok|FAILED|error:|make: \*\*\*)' "$log" | head -n 20 | sed "s/^/$suite $target: /" || true
    done
    say "$line, in $((SECONDS - started)) s"
}

machine_needs
for suite in "${suites[@]}"; do
    run_suite "$suite"
done
say "$passed passed, $failed failed"
((failed == 0 && passed > 0))

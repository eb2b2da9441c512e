#!/bin/bash
# Runs the tests and counts them. The last line is "N passed, N failed"; the exit code is
# 0 only if nothing failed and every kind of test ran.
#
#   test/lib/run.sh                     everything, as `make test` does
#   test/lib/run.sh KIND [FILE...]      one kind, or some of its files:
#                                       lint unit shell regress isolation pgtap web tap fuzz
#   test/lib/run.sh build               only build and install
#
# A test is: a rule (lint), a test case (unit), a script (regress, isolation), an assertion
# (shell, pgtap, web, tap, fuzz). Servers are throwaway ones; when this ends none is left. FUZZ_SECONDS says
# for how long each fuzz driver runs (60; 10 or 20 for those of kind web), FUZZ_SEED repeats a run, TAP_JOBS how many
# TAP tests run at a time.
set -euo pipefail
shopt -s inherit_errexit
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$BACKFILL_ROOT/test/lib/cluster.sh"
cd "$BACKFILL_ROOT"

passed=0
failed=0
TAP_JOBS=${TAP_JOBS:-$(($(nproc) + 2))}
work=''              # logs, and the copy of the tree that the TAP tests run in
declare -A beside=() # the processes that run beside others, by name
others=()            # those and the ones of scripts: they stop their servers themselves

# Called when the script ends, also by Ctrl-C.
before_cluster_stop() {
    local test
    [[ -n $work ]] || return 0
    for test in $(jobs -rp); do
        kill -TERM -- "-$test" 2>/dev/null || true
    done
    ((${#others[@]} == 0)) || wait "${others[@]}" 2>/dev/null || true
    stop_leftover_servers "$work"
    rm -rf -- "$work"
}

# TAP tests stop their own servers, unless they are killed. Only data directories inside
# our own work directory are looked at: stop_leftover_servers DIRECTORY
stop_leftover_servers() {
    [[ -d $1 ]] || return 0
    local pid_file
    while read -r pid_file; do
        warn "stopping a server that a test left running: ${pid_file%/postmaster.pid}"
        as_server "$(server_dir bindir)/pg_ctl" -D "${pid_file%/postmaster.pid}" -m immediate -w stop >/dev/null 2>&1 || true
    done < <(find "$1" -name postmaster.pid 2>/dev/null)
}

# record KIND NAME PASSED FAILED: count, and print one line.
record() {
    local mark=ok
    passed=$((passed + $3))
    failed=$((failed + $4))
    (($4 == 0)) || mark=FAILED
    if (($3 + $4 == 1)); then
        printf '%-7s %-10s %s\n' "$mark" "$1" "$2"
    else
        printf '%-7s %-10s %s (%d of %d)\n' "$mark" "$1" "$2" "$3" "$(($3 + $4))"
    fi
}

# A kind that could not run counts as one failed test, so that it is not overlooked.
record_broken() {
    record "$1" "$2" 0 1
    [[ -z ${3:-} ]] || tail -n 40 "$3"
}

# How many assertions in a TAP log passed or failed. Subtests are indented and do not count
# a second time; what is marked TODO may fail.
tap_passed() { grep -cE '^ok [0-9]+|^not ok [0-9]+.*# TODO' "$1" || true; }
tap_failed() { grep -E '^not ok [0-9]+' "$1" | grep -cv '# TODO' || true; }

# record_tap KIND NAME LOG EXIT_CODE: a log of TAP. A test may die or miss its plan without
# a failed assertion.
record_tap() {
    local ok not_ok
    ok=$(tap_passed "$3")
    not_ok=$(tap_failed "$3")
    if (($4 != 0 && not_ok == 0)) || ((ok + not_ok == 0)); then
        not_ok=$((not_ok + 1))
    fi
    record "$1" "$2" "$ok" "$not_ok"
    if ((not_ok > 0)); then
        say "--- $1 $2"
        if (($(wc -l <"$3") > 60)); then
            grep -A 8 -E '^not ok' "$3" | head -n 60 || true
            say '...'
            tail -n 20 "$3"
        else
            cat "$3"
        fi
    else
        grep '^# ledger: ' "$3" || true # what became of each job while servers failed
    fi
}

# The names to run: those given, as paths or bare, or all files of the kind.
# files_of DIRECTORY EXTENSION [FILE...]
files_of() {
    local dir=$1 extension=$2 file
    shift 2
    if (($# == 0)); then
        find "$dir" -maxdepth 1 -name "*.$extension" -printf '%f\n' 2>/dev/null | sort | sed "s/\.$extension\$//"
    else
        for file in "$@"; do
            file=${file##*/}
            printf '%s\n' "${file%."$extension"}"
        done
    fi
}

# The server of the kinds that test SQL. No executors and no clock: what runs and when is up to the test.
need_cluster() {
    [[ -z $CLUSTER_DIR ]] || return 0
    cluster_start fsync=off max_worker_processes=16 max_prepared_transactions=10 backfill.max_executors=0 backfill.cron_clock=external
}

run_lint() {
    local log=$work/lint.log status=0
    [[ -x test/lint/run.sh ]] || return 0
    test/lint/run.sh "$@" >"$log" 2>&1 </dev/null || status=$?
    if grep -qE '^(not )?ok ' "$log"; then
        sed -E -i 's/^((not )?ok) ([^0-9])/\1 1 \3/' "$log"
        record_tap lint rules "$log" "$status"
    elif ((status == 0)); then
        record lint rules 1 0
    else
        record_broken lint rules "$log"
    fi
}

run_unit() {
    local log=$work/unit.log filter=() cases status=0
    (($# == 0)) || filter=("--source-file=$(printf '*%s*,' "${@##*/}")")
    if ! make -s -j"$(nproc)" PG_CONFIG="$PG_CONFIG" COPT="${COPT:-} -Werror" tmp_check/unit/run >"$log" 2>&1; then
        record_broken unit 'does not build' "$log"
        return
    fi
    tmp_check/unit/run --no-colors=true "${filter[@]}" >"$log" 2>&1 </dev/null || status=$?
    cases=$(sed -nE 's/^\[doctest\] test cases: *[0-9]+ \| *([0-9]+) passed \| *([0-9]+) failed.*/\1 \2/p' "$log")
    if [[ -z $cases ]] || ((status != 0 && ${cases#* } == 0)); then
        record_broken unit 'ended early' "$log"
    else
        record unit 'test cases' "${cases% *}" "${cases#* }"
        ((status == 0)) || tail -n 60 "$log"
    fi
}

# The scripts that set up, build and show. They run at the same time, and print TAP.
run_shell() {
    local name log status
    local -A running=() # their processes, by name
    for name in $(files_of test/shell sh "$@"); do
        set -m # see run_tap
        bash "test/shell/$name.sh" >"$work/shell-$name.log" 2>&1 </dev/null &
        set +m
        running[$name]=$!
        others+=($!)
    done
    for name in $(files_of test/shell sh "$@"); do
        log=$work/shell-$name.log
        status=0
        wait "${running[$name]}" || status=$?
        record_tap shell "$name" "$log" "$status"
    done
}

# pg_regress and pg_isolation_regress, whose reports differ between versions.
# run_scripts KIND NAME...
run_scripts() {
    local kind=$1 log=$work/$1.log status=0 name result seen=0 regress='' isolation=''
    shift
    if [[ $kind == regress ]]; then
        regress="$*"
    else
        isolation="$*"
    fi
    need_cluster
    rm -f regression.diffs
    make -s installcheck PG_CONFIG="$PG_CONFIG" REGRESS="$regress" ISOLATION="$isolation" >"$log" 2>&1 </dev/null || status=$?
    while read -r result name; do
        seen=$((seen + 1))
        if [[ $result == ok ]]; then
            record "$kind" "$name" 1 0
        else
            record "$kind" "$name" 0 1
        fi
    done < <(sed -nE -e 's/^(test)? +([^ ]+) +\.\.\. +(ok|FAILED|failed).*/\3 \2/p' \
        -e 's/^(ok|not ok) +[0-9]+ +[-+] +([^ ]+).*/\1 \2/p' "$log" | sed 's/^not ok/not_ok/')
    if ((seen < $#)); then
        record_broken "$kind" "only $seen of $# scripts ran" "$log"
    elif ((status != 0)); then
        say "--- $kind: differences from what was expected"
        head -n 200 regression.diffs 2>/dev/null || tail -n 40 "$log"
    fi
}

run_regress() {
    local names
    mapfile -t names < <(files_of test/sql sql "$@")
    ((${#names[@]} == 0)) || run_scripts regress "${names[@]}"
}

run_isolation() {
    local names
    mapfile -t names < <(files_of test/specs spec "$@")
    ((${#names[@]} == 0)) || run_scripts isolation "${names[@]}"
}

# Each file gets a database of its own, with the extension, pgTAP and plpgsql_check in it.
run_pgtap() {
    local name log status
    need_cluster
    for name in $(files_of test/pgtap sql "$@"); do
        log=$work/pgtap-$name.log
        status=0
        if ! {
            psql -Xq -c 'DROP DATABASE IF EXISTS pgtap WITH (FORCE)' -c 'CREATE DATABASE pgtap' &&
                psql -Xq -v ON_ERROR_STOP=1 -d pgtap -c 'CREATE EXTENSION pgtap' -c 'CREATE EXTENSION plpgsql_check' \
                    -c 'CREATE EXTENSION backfill'
        } >"$log" 2>&1; then
            record_broken pgtap "$name: no database to run in" "$log"
            continue
        fi
        pg_prove --dbname pgtap --verbose "test/pgtap/$name.sql" >"$log" 2>&1 </dev/null || status=$?
        record_tap pgtap "$name" "$log" "$status"
    done
}

# PostgreSQL's own framework: each test makes its servers itself, and mostly waits for them, so several
# run at a time. They cannot run as root and write next to themselves, hence a copy of the tree that the
# server's owner may write.
run_tap() {
    local tree=$work/tree name names
    local -A running=() # the processes of tests, by name
    cluster_stop
    rm -rf "$tree"
    mkdir "$tree"
    tar --exclude=./.git --exclude=./tmp_check --exclude=./web --exclude='*.o' --exclude='*.gch' -cf - . | tar -C "$tree" -xf -
    if ((EUID == 0)); then
        chown -R postgres: "$tree"
    fi
    make_data_template
    mapfile -t names < <(files_of test/t pl "$@" | longest_first)
    for name in "${names[@]}"; do
        while ((${#running[@]} >= TAP_JOBS)); do
            record_ended_taps
        done
        # In a process group of its own, so that it can be ended with all that it has started.
        set -m
        start_tap "$name" &
        set +m
        running[$name]=$!
    done
    while ((${#running[@]} > 0)); do
        record_ended_taps
    done
}

# Those that take minutes, most of the time waiting: begun last, they would run alone in the end.
longest_taps=(135_upgrade 115_one_bad_thing 062_examples 133_automatic_queues 150_router 156_router_silent_node 155_router_pages 152_router_moves)
longest_first() {
    awk -v longest="${longest_taps[*]}" '
        { order[NR] = $0; there[$0] }
        END {
            n = split(longest, first, " ")
            for (i = 1; i <= n; i++)
                if (first[i] in there) { print first[i]; delete there[first[i]] }
            for (i = 1; i <= NR; i++)
                if (order[i] in there) print order[i]
        }'
}

# The data directory that new servers are copies of.
make_data_template() {
    as_server "$(server_dir bindir)/initdb" -D "$tree/data_template" -A trust -N >"$work/initdb.log" 2>&1 </dev/null || {
        cat "$work/initdb.log" >&2
        die "initdb failed"
    }
}

# Run a TAP test of the copied tree, and leave its exit code beside its log. It has a directory for its
# servers of its own.
start_tap() {
    local name=$1 pgxs status=0
    pgxs=$(dirname "$("$PG_CONFIG" --pgxs)")/../..
    # Up to PostgreSQL 15 the framework knows TESTDIR only; later ones make one level of the other two.
    as_server mkdir -p "$tree/tmp_check/$name/tmp_check/log"
    as_server env -C "$tree" -u PGHOST -u PGUSER -u PGDATABASE PATH="$(server_dir bindir):$PATH" TESTDIR="$tree/tmp_check/$name" \
        TESTDATADIR="$tree/tmp_check/$name/tmp_check" TESTLOGDIR="$tree/tmp_check/$name/tmp_check/log" \
        PG_CONFIG="$PG_CONFIG" INITDB_TEMPLATE="$tree/data_template" PG_TEST_TIMEOUT_DEFAULT="${PG_TEST_TIMEOUT_DEFAULT:-360}" PGCTLTIMEOUT="${PGCTLTIMEOUT:-360}" \
        PG_REGRESS="$pgxs/src/test/regress/pg_regress" top_builddir="$tree" PGPORT=65432 \
        prove --verbose -I "$pgxs/src/test/perl" -I test/lib "test/t/$name.pl" \
        >"$work/tap-$name.log" 2>&1 </dev/null || status=$?
    stop_leftover_servers "$tree/tmp_check/$name"
    printf '%s\n' "$status" >"$work/tap-$name.status"
}

# Wait until one of the `running` tests has ended, and take those that have out of them. A test that was
# killed, and left no exit code, has failed.
record_ended_taps() {
    local name status
    wait -n || true
    for name in "${!running[@]}"; do
        ! kill -0 "${running[$name]}" 2>/dev/null || continue
        status=137
        if [[ -s $work/tap-$name.status ]]; then
            status=$(<"$work/tap-$name.status")
        else
            stop_leftover_servers "$tree/tmp_check/$name"
        fi
        unset "running[$name]"
        record_tap tap "$name" "$work/tap-$name.log" "$status"
        if ((status != 0)); then
            show_server_logs "$tree/tmp_check/$name/tmp_check/log" "$name"
        fi
    done
}

# Drivers that call and run hostile things at random, each on a server of its own with executors. The
# log says every SQLSTATE, because the drivers look for internal errors in it.
run_fuzz() {
    local name log status
    for name in $(files_of test/fuzz py "$@"); do
        [[ $name != fuzz ]] || continue # what they share
        # sqlsmith's package is no part of what `make test` installs; `make fuzz` sets FUZZ_SECONDS.
        [[ $name != sqlsmith || $# -gt 0 || -n ${FUZZ_SECONDS:-} ]] || continue
        log=$work/fuzz-$name.log
        status=0
        cluster_stop
        cluster_start fsync=off max_worker_processes=16 max_prepared_transactions=20 log_error_verbosity=verbose backfill.max_executors=3
        /usr/bin/python3 "test/fuzz/$name.py" --seconds "${FUZZ_SECONDS:-60}" ${FUZZ_SEED:+--seed "$FUZZ_SEED"} --log "$CLUSTER_DIR/server.log" \
            >"$log" 2>&1 </dev/null || status=$?
        grep '^# ' "$log" | grep -v '^# *$' | head -n 9 || true
        record_tap fuzz "$name" "$log" "$status"
        cluster_stop
    done
}

# The program backfill-web, built with sanitizers: its unit tests, the fuzz drivers of its request path, then drivers
# that start it beside a server. Those in web/test speak HTTP, and the page is one for tests; those in web/test/browser
# look at the real page in Chromium, with jobs that run.
run_web() {
    local name driver log=$work/web.log build=$PWD/tmp_check/web below=../tmp_check/web # as seen from web/Makefile
    local options=(-s -C web -j"$(nproc)" BUILD="$below" COPT="${COPT:-} -Werror"
        CXXFLAGS='-O0 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all')
    if ! make "${options[@]}" PAGE=test/page all "$below/unit/run" mutate >"$log" 2>&1 ||
        ! make "${options[@]}" PROGRAM_DIR="$below/real" all >>"$log" 2>&1; then
        record_broken web 'does not build' "$log"
        return
    fi
    if (($# == 0)); then
        # It waits for the browser most of the time.
        ! has_page_modules 'the browser' || start_beside browser web $(browser_drivers)
        run_web_units "$build"
        run_page_units "$build"
    fi
    for name in $(files_of web/test py "$@"); do
        [[ $name != harness && -f web/test/$name.py ]] || continue # what they share
        need_web_cluster 0                                         # one that no other driver has left in disorder
        run_web_driver "$name" "$build/backfill-web" /usr/bin/python3 "web/test/$name.py"
    done
    for name in "$@"; do
        [[ -f web/test/browser/$name.mjs ]] || continue
        has_page_modules "the browser, $name" || continue
        need_web_cluster 2
        run_web_driver "$name" "$build/real/backfill-web" node "web/test/browser/$name.mjs"
    done
    cluster_stop
    [[ -z ${beside[browser]:-} ]] || finish_beside browser
}

# All but what they share.
browser_drivers() { files_of web/test/browser mjs | grep -vx lib; }

# What needs no server: run_web_units BUILD
run_web_units() {
    local log=$work/web-unit.log status=0 cases driver
    "$1/unit/run" --no-colors=true >"$log" 2>&1 </dev/null || status=$?
    cases=$(sed -nE 's/^\[doctest\] test cases: *[0-9]+ \| *([0-9]+) passed \| *([0-9]+) failed.*/\1 \2/p' "$log")
    if [[ -z $cases ]] || ((status != 0 && ${cases#* } == 0)); then
        record_broken web 'unit tests ended early' "$log"
    else
        record web 'unit test cases' "${cases% *}" "${cases#* }"
        ((status == 0)) || tail -n 60 "$log"
    fi
    for driver in "$1"/fuzz/*_mutate; do
        status=0
        "$driver" "${FUZZ_SECONDS:-10}" "${FUZZ_SEED:-$RANDOM}" "web/test/fuzz/$(basename "$driver" _mutate).seeds" web/test/fuzz/words.dict \
            >"$log" 2>&1 </dev/null || status=$?
        record_tap web "fuzz: $(basename "$driver" _mutate)" "$log" "$status"
    done
}

# A server where every role but postgres needs its password: need_web_cluster EXECUTORS
need_web_cluster() {
    cluster_stop
    cluster_start fsync=off max_worker_processes=16 password_encryption=scram-sha-256 backfill.max_executors="$1" backfill.cron_clock=external
    psql -Xq -c 'CREATE EXTENSION backfill'
    cluster_require_passwords
}

# Whether npm has installed what a test of the page needs; if not it is not counted.
has_page_modules() {
    [[ -f web/ui/node_modules/.backfill-lock && -f web/test/browser/node_modules/.backfill-lock ]] ||
        { say "skipped web        $1: npm does not reach its registry"; return 1; }
}
# The page's functions, and whether the page that is in git is what its sources make.
run_page_units() {
    local log=$work/web-page.log status=0 passed_here
    has_page_modules 'the page' || return 0
    (cd web/ui && node build.mjs --test) >"$log" 2>&1 </dev/null || status=$?
    passed_here=$(sed -nE 's/^. pass ([0-9]+)$/\1/p' "$log")
    record web 'functions of the page' "${passed_here:-0}" "$((status == 0 ? 0 : 1))"
    ((status == 0)) || tail -n 40 "$log"
    if (cd web/ui && PAGE=$1/page node build.mjs) >"$log" 2>&1 </dev/null && diff -r "$1/page" web/page >>"$log"; then
        record web 'the page in git is built from its sources' 1 0
    else
        record_broken web 'the page in git is not what "make page" builds' "$log"
    fi
}

# run_web_driver NAME PROGRAM COMMAND...: what the sanitizers keep of freed memory is bounded, because tests look at it.
run_web_driver() {
    local name=$1 log=$work/web-$1.log status=0
    PG_CONFIG=$PG_CONFIG BACKFILL_WEB=$2 ASAN_OPTIONS=quarantine_size_mb=8 "${@:3}" >"$log" 2>&1 </dev/null 8>&- || status=$?
    grep -E '^# (seed|calls|memory|a call|the slow)' "$log" || true
    record_tap web "$name" "$log" "$status"
}

# What a failed TAP test, and the servers that it had started, said last.
show_server_logs() {
    local log
    if [[ -f $1/regress_log_$2 ]]; then
        say "--- what failed in regress_log_$2, and its end"
        grep -A 20 'Failed test' "$1/regress_log_$2" | head -n 120 || true
        tail -n 15 "$1/regress_log_$2"
    fi
    for log in "$1/$2"_*.log; do
        [[ -f $log ]] || continue
        say "--- errors and warnings in ${log##*/}"
        grep -E ' (WARNING|ERROR|FATAL|PANIC): |TRAP:|was terminated by' "$log" | tail -n 15 || true
    done
}

# Run one kind; a kind without any test is a failure too.
run_kind() {
    local kind=$1 before=$((passed + failed)) started=$SECONDS
    shift
    "run_$kind" "$@"
    if ((passed + failed == before)) && [[ $kind != lint ]]; then
        record_broken "$kind" 'no tests ran'
    fi
    say "        $kind took $((SECONDS - started)) s"
}

# start_beside NAME KIND [FILE...]: it runs in a process of its own, with servers of its own.
start_beside() {
    set -m
    BACKFILL_IS_BUILT=yes test/lib/run.sh "${@:2}" >"$work/beside-$1.log" 2>&1 </dev/null 8>&- &
    set +m
    beside[$1]=$!
    others+=($!)
}

# finish_beside NAME: waits for it; the last line of its log has its numbers.
finish_beside() {
    local log=$work/beside-$1.log
    wait "${beside[$1]}" || true
    if [[ $(tail -n 1 "$log") =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        sed '$d' "$log"
        passed=$((passed + BASH_REMATCH[1]))
        failed=$((failed + BASH_REMATCH[2]))
    else
        record_broken "$1" 'ended early' "$log"
    fi
}

main() {
    local kind
    if [[ ${1:-} == build ]]; then
        build_and_install
        return
    fi
    cluster_set_traps
    work=$(new_server_dir)
    if [[ -z ${BACKFILL_IS_BUILT:-} ]] && ! build_and_install -Werror; then
        record_broken build 'the extension'
    elif (($# > 0)); then
        [[ " lint unit shell regress isolation pgtap web tap fuzz " == *" $1 "* ]] || die "unknown kind of test \"$1\""
        run_kind "$@"
    else
        run_kind lint
        run_kind unit
        # The dashboard's tests use one CPU most of the time, and the fuzz drivers run for a time, not to an end.
        start_beside web web
        for kind in shell regress isolation pgtap; do
            run_kind "$kind"
        done
        start_beside fuzz fuzz
        run_kind tap
        finish_beside fuzz
        finish_beside web
    fi
    say "$passed passed, $failed failed"
    ((failed == 0 && passed > 0))
}
# The test of this file reads it, and calls its functions.
[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"

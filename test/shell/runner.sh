#!/bin/bash
# run.sh itself: TAP tests that pass, fail, are killed together with the process that waits for them, and
# leave a server. Its functions are called with tests that need no server. Prints TAP.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
source test/lib/run.sh
set +eu
source test/lib/tap.sh
cluster_set_traps
work=$(new_server_dir)

# What run_tap would copy, and the tests that it would find. One is killed before it says how it ended.
tar() { cat >/dev/null; }
chown() { :; }
make_data_template() { :; }
files_of() { printf '%s\n' passes killed fails cut; }
start_tap() {
    local status=0
    printf 'ok 1 - first\n' >"$work/tap-$1.log"
    case $1 in
    killed)
        mkdir -p "$tree/tmp_check/$1"
        kill -KILL "$BASHPID"
        ;;
    fails)
        printf 'not ok 2 - second\n' >>"$work/tap-$1.log"
        status=1
        ;;
    cut) status=2 ;; # it died after its first assertion
    esac
    printf '%s\n' "$status" >"$work/tap-$1.status"
}
looked_at=()
stop_leftover_servers() { looked_at+=("${1##*/}"); }

for TAP_JOBS in 1 3; do
    passed=0 failed=0 looked_at=()
    rm -f "$work"/tap-*
    run_tap >"$work/said" 2>&1
    is "$passed passed, $failed failed" '4 passed, 3 failed' "each test is counted, $TAP_JOBS at a time"
    is "$(sed -nE 's/^(ok|FAILED) +tap +//p' "$work/said" | sort | tr '\n' ' ')" \
        'cut (1 of 2) fails (1 of 2) killed (1 of 2) passes ' "and named with what it passed, $TAP_JOBS at a time"
    is "${looked_at[*]}" killed 'servers of a test that was killed are looked for'
done

# A kind beside others: one that does not come to its end, and one whose numbers are taken over.
passed=0 failed=0
start_beside nosuch nosuch
finish_beside nosuch >"$work/said"
like "$(cat "$work/said")" 'FAILED*nosuch *ended early*unknown kind of test "nosuch"' 'a kind that ended early is said to have, with its log'
is "$passed passed, $failed failed" '0 passed, 1 failed' 'and has failed'
passed=0 failed=0
printf 'ok      fuzz       one (3 of 3)\nFAILED  fuzz       two (1 of 2)\n4 passed, 1 failed\n' >"$work/beside-fuzz.log"
true &
beside[fuzz]=$!
finish_beside fuzz >"$work/said"
is "$passed passed, $failed failed" '4 passed, 1 failed' 'the numbers of another are taken over'
is "$(cat "$work/said")" $'ok      fuzz       one (3 of 3)\nFAILED  fuzz       two (1 of 2)' 'and what it said is said, without its sum'
done_testing

# shellcheck shell=bash
# TAP for the tests that are shell scripts. Source it.

tests_run=0
tests_failed=0

# verdict yes|'' NAME [WHAT IT WAS]
verdict() {
    tests_run=$((tests_run + 1))
    if [[ $1 == yes ]]; then
        printf 'ok %d - %s\n' "$tests_run" "$2"
    else
        tests_failed=$((tests_failed + 1))
        printf 'not ok %d - %s\n' "$tests_run" "$2"
        [[ -z ${3:-} ]] || sed 's/^/#   /' <<<"$3"
    fi
}
ok() { verdict "$1" "$2"; }
# is GOT EXPECTED NAME
is() { verdict "$([[ $1 == "$2" ]] && echo yes)" "$3" "got: $1"$'\n'"expected: $2"; }
# like GOT PATTERN NAME, the pattern as in `case`
like() {
    # shellcheck disable=SC2053 # a pattern
    verdict "$([[ $1 == $2 ]] && echo yes)" "$3" "got: $1"$'\n'"expected something like: $2"
}
skip() {
    tests_run=$((tests_run + 1))
    printf 'ok %d # SKIP %s\n' "$tests_run" "$1"
}

# wait_for CONDITION NAME [LOG]: an assertion: the condition comes to be true. Its deadline is that of PostgreSQL's tests.
wait_for() {
    local deadline=$((SECONDS + ${PG_TEST_TIMEOUT_DEFAULT:-180}))
    until eval "$1"; do
        if ((SECONDS > deadline)); then
            verdict '' "$2" "$(cat "${3:-/dev/null}")"
            return
        fi
        read -r -t 0.1 <> <(:) || true
    done
    verdict yes "$2"
}

done_testing() {
    printf '1..%d\n' "$tests_run"
    exit $((tests_failed > 0))
}

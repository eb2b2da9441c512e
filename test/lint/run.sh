#!/bin/bash
# Rules that the compiler does not know. Prints "ok - rule" or "not ok - rule" and what breaks
# it; exits with 1 if anything does.
#
#   test/lint/run.sh               checks the tree
#   test/lint/run.sh --self-test   checks that each rule finds what was planted for it
set -euo pipefail
cd "$(dirname "$0")/../.."
lint_dir=test/lint
PG_CONFIG=${PG_CONFIG:-pg_config}
failed=0

# Print the verdict on a rule: its name, and what was found against it, which should be nothing.
verdict() {
    if [[ -z $2 ]]; then
        echo "ok - $1"
    else
        echo "not ok - $1"
        sed 's/^/#   /' <<<"$2"
        failed=1
    fi
}

# Lines of files that match a pattern, comments of C++ left out.
lines_with() {
    local pattern=$1
    shift
    grep -nE -- "$pattern" "$@" 2>/dev/null | grep -vE '^[^:]*:[0-9]+:[[:space:]]*(/?\*|//|--)' || true
}

# The rules of wall.query, by clang's own parser; prints the places that break them.
check_wall() {
    local query=clang-query version
    command -v "$query" >/dev/null || for version in 19 18 17 16 15 14; do
        query=clang-query-$version
        command -v "$query" >/dev/null && break
    done
    command -v "$query" >/dev/null || { echo "clang-query is not installed"; return; }
    # Two processes, one per core of a small machine.
    printf '%s\n' "$@" | xargs -P 2 -n "$((($# + 1) / 2))" bash -c '
        query=$1 rules=$2 server=$3; shift 3
        "$query" -f "$rules" "$@" -- -std=c++20 -x c++ -Iinclude -isystem "$server" -D_GNU_SOURCE \
            "-DBACKFILL_VERSION=\"0\"" -Wno-everything 2>&1' \
        _ "$query" "$lint_dir/wall.query" "$("$PG_CONFIG" --includedir-server)" |
        grep -E 'note: "root" binds here|rror' | sed "s|$PWD/||" || true
}

# SQL-callable symbols that are defined but not declared in the install script, or the reverse.
check_symbols() {
    local defined declared
    defined=$(grep -hoE '^BACKFILL_FUNCTION\(\w+' "$@" | sed 's/.*(//' | sort -u)
    declared=$(grep -hoE "'MODULE_PATHNAME', '\w+'" sql/install/*.sql | sed "s/.*, '//; s/'//" | sort -u)
    comm -3 <(echo "$defined") <(echo "$declared")
}

check_tree() {
    mapfile -t sources < <(ls src/*.cpp src/*/*.cpp bgworker/*.cpp)
    mapfile -t headers < <(find include -name '*.hpp')
    mapfile -t scripts < <(ls sql/install/*.sql)
    verdict "no longjmp over destructors, no ereport in catch, no throw in pg::call()" "$(check_wall "${sources[@]}")"
    verdict "src/core knows nothing of PostgreSQL" "$(lines_with 'postgres\.h|backfill/pg/|ereport|elog|palloc' src/core/*.cpp include/backfill/core/*.hpp)"
    verdict "postgres.h is included by pg.hpp only" \
        "$(lines_with '#include "(postgres|c)\.h"' "${sources[@]}" $(grep -v 'pg/pg.hpp' <<<"$(printf '%s\n' "${headers[@]}")"))"
    verdict "catch (...) only in the boundary" "$(lines_with 'catch \(\.\.\.\)' "${sources[@]}" "${headers[@]}" | grep -v 'pg/guard.hpp' || true)"
    verdict "no new, delete, thread or signal()" \
        "$(lines_with '(^|[^a-zA-Z_."])(new [A-Za-z_:]+[({;]|delete [a-z_]+;|std::thread|signal\(SIG)' "${sources[@]}" "${headers[@]}")"
    verdict "errors go through BACKFILL_FUNCTION's boundary" "$(lines_with 'PG_FUNCTION_INFO_V1' "${sources[@]}")"
    verdict "install scripts only create" "$(lines_with 'CREATE OR REPLACE|IF NOT EXISTS' "${scripts[@]}")"
    verdict "every SQL function has a C symbol and the reverse" "$(check_symbols "${sources[@]}")"
    verdict "tests do not sleep" "$(lines_with 'pg_sleep|[^a-z]sleep\(|^ *sleep ' test/sql/*.sql test/pgtap/*.sql test/specs/*.spec | grep -v 'FUNCTION\|handler' || true)"
    verdict "no trailing white space" "$(git ls-files | grep -vE '^expected/|\.png$' | xargs -d '\n' grep -nE '[[:space:]]+$' 2>/dev/null || true)"
}

# Each planted file breaks one rule; its name says which check must find it.
self_test() {
    local file found
    for file in "$lint_dir"/planted/*.cpp; do
        found=$(check_wall "$file")
        if [[ -n $found ]]; then echo "ok - found what $file planted"; else
            echo "not ok - found nothing in $file"
            failed=1
        fi
    done
    found=$(check_wall src/core/priority.cpp)
    verdict "a clean file passes" "$found"
}

if [[ ${1:-} == --self-test ]]; then self_test; else
    check_tree
    self_test
fi
exit "$failed"

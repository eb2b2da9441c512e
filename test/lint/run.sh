#!/bin/bash
# Rules that the compiler does not know. For each it prints "ok - rule", or "not ok - rule" and
# what breaks it; exits with 1 if anything does.
#
#   test/lint/run.sh               checks the tree, then itself
#   test/lint/run.sh --tree        checks the tree
#   test/lint/run.sh --self-test   plants a fault for every rule and checks that the rule finds it
#
# A rule is a function check_NAME, which looks at the tree in the current directory and prints
# what is wrong, and a function plant_NAME, which puts something wrong into a copy of it. narrow_NAME,
# if there is one, removes from that copy what the rule need not look at twice.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source test/lib/common.sh
lint_dir=$PWD/test/lint
failed=0

# All that is written lies in one directory, and what checks in the background is a process group of its own,
# so that Ctrl-C leaves nothing.
TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/backfill-lint.XXXXXX")
export TMPDIR
clean_up() {
    local check
    for check in $(jobs -p); do kill -TERM -- "-$check" 2>/dev/null || true; done
    wait
    rm -rf "$TMPDIR"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

rules=(
    "wall             no longjmp over destructors, no exception through PostgreSQL (wall.query)"
    "core             src/core knows nothing of PostgreSQL"
    "rooms            includes run down the rooms of the source tree, never up (rooms.pl)"
    "circles          no modules include each other in a circle (rooms.pl)"
    "lengths          no source file of src, bgworker or web is longer than 450 lines"
    "functions        no function of C++ is longer than 60 lines (function_length.pl)"
    "pg_headers       PostgreSQL's headers are included below include/backfill/pg"
    "forbidden        no threads, signals, sleeps, locales, raw new or catch-all in the sources"
    "door             a job is removed by take() only, and ended by settle() only"
    "kept_errors      an error is kept without a subtransaction only where the transaction is then aborted"
    "boundary         SQL functions are defined by BACKFILL_FUNCTION"
    "install_scripts  scripts adopt nothing, and name everything with its schema (install_scripts.pl)"
    "frozen           scripts of released versions do not change (sql/frozen.sha256)"
    "symbols          every SQL function, of old versions too, has its C symbol, and the reverse"
    "settings         settings are in alphabetical order, and documented"
    "documented       every function, procedure and view is documented"
    "test_files       every test file is picked up, and has what it needs"
    "sleeps           tests wait for conditions, they do not sleep"
    "waits            TAP tests wait until a deadline, and notice when it passes"
    "shell            shell scripts pass shellcheck"
    "words            prose names the actor, says must or should, and because (words.pl)"
    "links            links between the guides lead somewhere (links.pl)"
    "page             the dashboard makes no markup of data, asks no other host, and has no long file"
    "white_space      no trailing white space, a newline at the end"
    "hosts            no host names of package registries, no paths of one machine"
)

# Headers that a source file includes by itself, because hardly any other needs them.
own_headers=(
    "bgworker/launcher.cpp utils/varlena.h"
    "src/shmem/run_ledger.cpp access/xlog.h"
    "src/shmem/ledger_file.cpp access/xlog.h"
    "src/shmem/ledger_file.cpp storage/fd.h"
    "src/shmem/run_ledger.cpp storage/pmsignal.h"
    "src/guc.cpp utils/varlena.h"
    "src/pg_hooks/parallel_worker_hook.cpp access/parallel.h"
    "src/pg/jsonb.cpp utils/datetime.h"
    "src/pg/jsonb.cpp utils/json.h"
    "src/call/deferred_events.cpp access/htup_details.h"
    "src/call/deferred_events.cpp catalog/pg_trigger.h"
    "src/stats/label_set_places.cpp common/hashfn.h"
)

# Functions for the views and the tools only; the guides need not speak of them.
undocumented='^backfill\._'

# --- Help --------------------------------------------------------------------------------------

# The files of the tree, new ones included.
tree_files() {
    if [[ -e .git ]]; then
        git -c safe.directory='*' ls-files -co --exclude-standard -- "$@" | while read -r file; do [[ ! -f $file ]] || echo "$file"; done
    else
        find "${@:-.}" \( -path ./tmp_check -o -path ./web/ui/dist -o -path ./web/ui/build -o -path ./results -o -path ./output_iso -o -name node_modules \) -prune -o -type f -print 2>/dev/null |
            sed 's|^\./||' | grep -vE '\.(o|d|so|bc|gch)$|^\.build-id$|^sql/backfill--|^examples/cpp/consumer$|^regression\.'
    fi | sort
}
tree_version() { sed -n "s/^default_version = '\(.*\)'/\1/p" backfill.control; }
# Scripts of released versions and those that upgrade, but not the one that make assembles.
kept_scripts() { find sql -maxdepth 1 -name 'backfill--*.sql' ! -name "backfill--$(tree_version).sql" | sort; }
sources() { tree_files src bgworker include | grep -E '\.[ch]pp$'; }
# Those of the program beside the server, which knows nothing of the server's headers.
web_sources() { tree_files web/src web/test | grep -E '\.[ch]pp$'; }

# Lines of files that match a pattern, comments left out: grep_code PATTERN FILE...
grep_code() {
    local pattern=$1
    shift
    (($# == 0)) || grep -nHE -- "$pattern" "$@" | grep -vE '^[^:]*:[0-9]+:[[:space:]]*(/?\*|//|--)' || true
}

find_clang_query() {
    local version
    command -v clang-query && return
    for version in $(seq 30 -1 14); do
        command -v "clang-query-$version" && return
    done
    return 1
}

# query_together FILE...: clang-query reads files as one, because it takes longer for the headers than for
# them. Names that are one file's alone may meet there: then each half is read apart. Uses the variables
# that query_wall exports, and writes a file into $wall_out.
query_together() {
    local output
    output=$(mktemp "$wall_out/XXXXXX")
    printf '#include "%s"\n' "${@/#/$PWD/}" >"$output.cpp"
    "$wall_query" -f "$wall_rules" "$output.cpp" -- -std=c++20 -x c++ -Iinclude -isystem "$wall_server" -D_GNU_SOURCE \
        '-DBACKFILL_VERSION="0"' -Wno-everything >"$output" 2>&1
    if (($# > 1)) && grep -q ' error: ' "$output"; then
        : >"$output"
        query_together "${@:1:$(($# / 2))}"
        query_together "${@:$(($# / 2 + 1))}"
    fi
}

# Applies wall.query to files; prints "file:line: rule", sorted, once each. Files of one directory have
# more names in common than others.
query_wall() {
    wall_query=$(find_clang_query) || { echo "clang-query is not installed"; return; }
    wall_out=$(mktemp -d)
    wall_rules=$lint_dir/wall.query
    wall_server=$("$PG_CONFIG" --includedir-server)
    export wall_query wall_out wall_rules wall_server
    export -f query_together
    printf '%s\n' "$@" | awk -v groups=$((($# + 15) / 16)) '{ line[NR % groups] = line[NR % groups] " " $0 } END { for (g in line) print line[g] }' |
        xargs -P "$(nproc)" -L 1 bash -c 'query_together "$@"' _ || echo "clang-query failed"
    cat "$wall_out"/* | sed -nE -e "s|^$PWD/||" -e 's/^([^: ]+:[0-9]+):[0-9]+: note: "(.*)" binds here$/\1: \2/p' \
        -e '/^[^ ]+:[0-9]+:[0-9]+: (fatal )?error: /p' -e '/^[0-9]+:[0-9]+: /p' | sort -u
    rm -rf "$wall_out"
}

# --- The rules ---------------------------------------------------------------------------------

check_wall() {
    local files
    mapfile -t files < <(sources | grep '\.cpp$')
    query_wall "${files[@]}"
}
# plant_wall: see self_test_wall().

check_core() {
    grep_code '#include "' $(tree_files src/core include/backfill/core test/unit) | grep -vE '"backfill/core/[a-z_0-9]+\.hpp"' || true
    grep_code 'ereport|elog|palloc|Datum' $(tree_files src/core include/backfill/core)
}
plant_core() { sed -i '1i #include "backfill/pg/pg.hpp"' src/core/priority.cpp; }

check_rooms() {
    # shellcheck disable=SC2046 # our files have no spaces in their names
    perl "$lint_dir/rooms.pl" $(sources) | { grep -v '^circle' || true; }
}
plant_rooms() { sed -i '1i #include "backfill/run/batch.hpp"' src/table/job_table.cpp; }
check_circles() {
    # shellcheck disable=SC2046 # our files have no spaces in their names
    perl "$lint_dir/rooms.pl" $(sources) | { grep '^circle' || true; }
}
plant_circles() { sed -i '/^#pragma once/a #include "backfill/shmem/job_waiters.hpp"' include/backfill/shmem/shared_state.hpp; }

# Not asked of why_waiting.cpp: a list of reasons, each of them short.
check_lengths() {
    { sources && web_sources; } | grep -E '^(src|bgworker|web)/' | grep -vx 'src/insight/why_waiting.cpp' | xargs wc -l |
        awk '$1 > 450 && $2 != "total" { print $2 ": " $1 " lines" }'
}
plant_lengths() { printf '\n%.0s' {1..451} >>src/core/priority.cpp; }

check_functions() {
    # shellcheck disable=SC2046 # our files have no spaces in their names
    perl "$lint_dir/function_length.pl" $(sources) $(web_sources)
}
plant_functions() {
    {
        printf 'void nap()\n{\n'
        printf '    ;\n%.0s' {1..60}
        echo '}'
    } >>src/core/priority.cpp
}

check_pg_headers() {
    local line file header
    grep_code '#include "[a-z_0-9/]+\.h"' $(sources | grep -v '^include/backfill/pg/') | while IFS= read -r line; do
        file=${line%%:*}
        header=$(sed -E 's/.*"(.*)".*/\1/' <<<"$line")
        grep -qxF "$file $header" < <(printf '%s\n' "${own_headers[@]}") || echo "$line"
    done
}
plant_pg_headers() { sed -i '1i #include "utils/builtins.h"' src/run/batch.cpp; }

check_forbidden() {
    local code='(^|[^a-zA-Z_"])'
    grep_code "$code(new [A-Za-z_:]+[({;]|delete [a-z_]+;|malloc\()" $(sources)
    grep_code 'catch \(\.\.\.\)' $(sources | grep -v '^include/backfill/pg/guard.hpp$')
    grep_code "std::(thread|jthread|async|mutex|random_device|locale|cout|cerr|rand)|<(iostream|thread|mutex|locale)>" $(sources)
    # Only the file that must know which process has sent a signal may set handlers by sigaction().
    grep_code "$code(signal\(|sigaction\(|u?sleep\(|setlocale\(|pthread_)" $(sources | grep -vx 'src/shmem/crash_signals.cpp')
}
plant_forbidden() { echo 'void nap() { sleep(1); }' >>src/run/batch.cpp; }

# The bookkeeping of a removal and of an end, each with the one file that calls it.
check_door() {
    local call caller
    while read -r call caller; do
        grep_code "(^|[^a-z_:])(queue::)?$call\\(" $(sources | grep -vxF "$caller")
    done <<'CALLS'
low_water::note_claimed src/settle/take.cpp
wake::announce_taken src/settle/take.cpp
stats::note_fate src/settle/settle.cpp
stats::note_run src/settle/settle.cpp
stats::note_claim_end src/settle/settle.cpp
stats::note_lost_run src/settle/settle.cpp
job_end::note src/settle/settle.cpp
ended_jobs::note src/settle/history.cpp
dead_letter::write src/settle/settle.cpp
dead_letter::forget src/settle/settle.cpp
CALLS
    # A move to another node takes waiting jobs out by SQL; the sweep finds what a rollback brings back.
    grep_code '(^|[^:a-z_])DELETE FROM backfill\.job( |$)' $(tree_files sql/install | grep -vxF sql/install/84_moves.sql)
}
plant_door() { echo 'void f(const JobRow &row) { low_water::note_claimed(row); }' >>src/run/batch.cpp; }

check_kept_errors() {
    grep_code '(^|[^a-z_])error_of\(' $(sources | grep -vxF -e include/backfill/pg/subtransaction.hpp -e src/call/run_job.cpp)
}
plant_kept_errors() { echo 'auto f() { return pg::error_of([] {}); }' >>src/run/batch.cpp; }

check_boundary() { grep_code 'PG_FUNCTION_INFO_V1|PG_FUNCTION_ARGS' $(sources | grep -v '^include/backfill/pg/guard.hpp$'); }
plant_boundary() { echo 'PG_FUNCTION_INFO_V1(backfill_bare);' >>src/api/task_api.cpp; }

# The scripts that upgrade, too. What they may replace belongs to the extension: PostgreSQL sees to that.
check_install_scripts() { perl "$lint_dir/install_scripts.pl" $(tree_files sql/install router/sql/install) sql/backfill--*--*.sql || true; }
plant_install_scripts() {
    echo 'CREATE FUNCTION backfill.f(n int) RETURNS int LANGUAGE sql AS $$ SELECT pg_catalog.abs(n) $$;' >>sql/install/50_run.sql
}

# The script that upgrades to the version in development may still change.
check_frozen() {
    local script
    (cd sql && sha256sum --check --quiet frozen.sha256 2>/dev/null) | sed 's/: FAILED.*/: has changed, or is not there/; s|^|sql/|' || true
    for script in $(kept_scripts); do
        [[ $script == *--"$(tree_version)".sql ]] || grep -qF -- "  ${script#sql/}" sql/frozen.sha256 || echo "$script: is not in sql/frozen.sha256"
    done
}
plant_frozen() { echo '-- a better comment' >>sql/backfill--0.1.0.sql; }

# Of functions that a released version has had, the symbols stay: before its update a database calls them,
# and on the way to a new version an old script may be run.
check_symbols() {
    local defined declared
    defined=$(grep -hoE '^BACKFILL_FUNCTION\(\w+' $(sources) | sed 's/.*(//' | sort)
    declared=$(grep -hoE "'MODULE_PATHNAME', *'\w+'" $(tree_files sql/install) $(kept_scripts) | sed "s/.*, *'//; s/'//" | sort -u)
    uniq -d <<<"$defined" | sed 's/$/: defined twice/'
    comm -23 <(uniq <<<"$defined") <(echo "$declared") | sed 's/$/: defined, but no SQL function uses it/'
    comm -13 <(uniq <<<"$defined") <(echo "$declared") | sed 's/$/: used by an SQL function, but not defined/'
}
plant_symbols() { sed -i "s/'backfill_version'/'backfill_verzion'/" sql/install/50_run.sql; }

check_settings() {
    local names in_groups
    names=$(grep -oE '"backfill\.\w+"' src/guc.cpp | tr -d '"')
    # Each group is a function.
    in_groups=$(awk '/^void define_/ { group++ } match($0, /"backfill\.[a-z_]+"/) { printf "%d %s\n", group, substr($0, RSTART + 1, RLENGTH - 2) }' src/guc.cpp)
    diff <(echo "$in_groups") <(sort <<<"$in_groups") | sed -n 's/^[<>] [0-9]* \(.*\)/\1: out of order in src\/guc.cpp/p' | sort -u
    while read -r name; do
        grep -qF "\`$name\`" docs/reference.md || echo "$name: not in docs/reference.md"
    done <<<"$names"
}
plant_settings() { sed -i 's/`backfill.batch_time`/`backfill.batchtime`/' docs/reference.md; }

# Looks for the name as code or as a call: README.md says that the reference has all.
check_documented() {
    local name
    grep -hoE '^CREATE (FUNCTION|PROCEDURE|VIEW|TYPE) backfill\.\w+' $(tree_files sql/install) | sed 's/.* //' | sort -u |
        grep -vE "$undocumented" | while read -r name; do
        grep -qE "(\`|[ (.])${name#backfill.}(\`|\(|\[)" docs/reference.md || echo "$name: not in docs/reference.md"
    done
}
plant_documented() { sed -i 's/delete_dlq_job/delete_dead/g' docs/reference.md; }

check_test_files() {
    local file base number name
    # pg_regress and its sister for isolation compare with expected/NAME.out.
    for file in $(tree_files test/sql test/specs); do
        base=${file##*/}
        base=${base%.*}
        case $file in
        test/sql/include/*.sql) ;;
        test/sql/*/*) echo "$file: in a folder that no test kind looks into" ;;
        test/sql/*.sql | test/specs/iso_*.spec) [[ -f expected/$base.out ]] || echo "$file: no expected/$base.out" ;;
        *) echo "$file: neither test/sql/NAME.sql nor test/specs/iso_NAME.spec" ;;
        esac
        # It would be run in place of test/sql/NAME.sql.
        [[ ! -f sql/$base.sql ]] || echo "sql/$base.sql: hides $file from pg_regress"
    done
    for file in $(tree_files expected); do
        base=${file#expected/}
        base=${base%.out}
        [[ -f test/sql/$base.sql ]] && continue
        [[ $base != *_[0-9] ]] || base=${base%_?} # of several right answers
        [[ -f test/sql/$base.sql || -f test/specs/$base.spec ]] || echo "$file: no test of this name"
    done
    tree_files test/t | grep -vE '^test/t/[0-9]{3}_[a-z_]+\.pl$' | sed 's/$/: not NNN_name.pl/' || true
    for number in $(tree_files test/t | sed -nE 's|^test/t/([0-9]{3})_.*|\1|p' | sort | uniq -d); do
        echo "test/t: two tests have the number $number"
    done
    for name in $(sed -n 's/^longest_taps=(\(.*\))$/\1/p' test/lib/run.sh); do
        [[ -f test/t/$name.pl ]] || echo "test/lib/run.sh: longest_taps has $name, and there is no test/t/$name.pl"
    done
    tree_files test/unit | grep -vE '^test/unit/([a-z_0-9]+_test|main)\.cpp$' | sed 's/$/: not NAME_test.cpp/' || true
    for file in $(tree_files test/unit | grep '_test\.cpp$'); do
        grep -q 'TEST_CASE' "$file" || echo "$file: no TEST_CASE"
    done
    tree_files test/pgtap | grep -vE '\.(sql|pl)$' | sed 's/$/: neither .sql nor a .pl that one uses/' || true
    for file in $(tree_files test/t | grep '\.pl$'); do
        grep -q 'done_testing\|tests => ' "$file" || echo "$file: no plan"
    done
}
plant_test_files() { mv test/t/001_wake.pl test/t/wake.pl; }

check_sleeps() { perl "$lint_dir/sleeps.pl" $(tree_files test | grep -E '^test/(sql|specs|pgtap|t|lib)/.*\.(sql|spec|pl|pm)$') || true; }
plant_sleeps() { echo 'SELECT pg_sleep(1);' >>test/sql/queues.sql; }

check_waits() { perl "$lint_dir/waits.pl" $(tree_files test | grep -E '^test/(t|lib)/.*\.p[lm]$') || true; }
plant_waits() { printf 'for my $try (1 .. 100)\n{\n\tlast if $node->safe_psql($db, $query);\n}\n' >>test/t/001_wake.pl; }

# Not asked for: 2034 and 2154, because files that are sourced share variables; 2046, because lists of
# files are split into words here. The examples are for users to copy: they pass everything.
check_shell() {
    local files
    command -v shellcheck >/dev/null || { echo "shellcheck is not installed"; return; }
    mapfile -t files < <(tree_files | grep -E '\.sh$|^\.ci/run$')
    printf '%s\n' "${files[@]}" | xargs -r -P "$(nproc)" -n 8 shellcheck -f gcc -S warning -e SC2034,SC2046,SC2154 | sort || true
    shellcheck -f gcc $(tree_files examples | grep '\.sh$') || true
}
# It takes longest of all: only these are asked before and after.
narrow_shell() { find . -name '*.sh' ! -path './bench/*' ! -path './examples/*' -delete; }
plant_shell() { echo 'local not_in_a_function' >>bench/plot.sh; }

check_words() {
    local files
    mapfile -t files < <(tree_files | grep -vE '\.(png|svg|dat)$|^sql/backfill--[0-9.]+\.sql$|^web/page/')
    perl "$lint_dir/words.pl" "${files[@]}"
}
plant_words() { printf '%s\n' '-- A job that nobody' '-- runs.' >>test/sql/queues.sql; }

check_links() { perl "$lint_dir/links.pl" $(tree_files | grep '\.md$'); }
plant_links() { echo '[all](docs/queues.md#no-such-heading)' >>README.md; }

check_page() {
    local file count
    grep_code 'innerHTML|insertAdjacentHTML|document\.write|(^|[^a-zA-Z.])eval\(|new Function| style="' $(tree_files web/ui/src web/ui/index.html)
    grep_code 'https?://' $(tree_files web/ui/src web/ui/index.html)
    for file in $(tree_files web/ui | grep -E '\.(tsx?|mjs|css)$'); do
        count=$(wc -l <"$file")
        ((count <= 450)) || echo "$file: $count lines"
    done
}
plant_page() { echo 'document.body.innerHTML = location.hash;' >>web/ui/src/main.tsx; }

check_white_space() {
    local files
    mapfile -t files < <(tree_files | grep -vE '^expected/|\.png$|^regression\.|\.seeds/')
    grep -nHE '[[:space:]]+$' "${files[@]}" || true
    perl -ne 'print "$ARGV: no newline at the end\n" if eof && !/\n\z/' "${files[@]}"
}
plant_white_space() { printf 'a word \n' >>README.md; }

check_hosts() {
    local files
    mapfile -t files < <(tree_files | grep -v '^test/lint/run.sh$')
    grep -nHiE '\b(deb|ftp|security|snapshot)\.debian\.org|npmjs|pypi|crates\.io|rubygems|proxy\.golang|cpan\.org|(^|[^a-z])mirrors?\.|/root/|/work/|/tmp/dev' "${files[@]}" || true
}
plant_hosts() { echo 'deb http://deb.debian.org/debian bookworm main' >>test/lib/setup.sh; }

# --- Running them ------------------------------------------------------------------------------

# Print the verdict on a rule: its description, and what was found against it.
verdict() {
    if [[ -z $2 ]]; then
        echo "ok - $1"
    else
        echo "not ok - $1"
        sed 's/^/#   /' <<<"$2"
    fi
}

# Calls a function with each rule's name and description, as many at a time as there are processors, and
# prints what the calls print in the order of the rules: for_each_rule FUNCTION
for_each_rule() {
    local outputs rule name description number=0
    outputs=$(mktemp -d)
    for rule in "${rules[@]}"; do
        while (($(jobs -pr | wc -l) >= $(nproc))); do wait -n || true; done
        read -r name description <<<"$rule"
        number=$((number + 1))
        set -m
        { "$1" "$name" "$description" || echo "not ok - rule $name could not be checked"; } >"$outputs/$number" 2>&1 </dev/null &
        set +m
    done
    wait
    for ((number = 1; number <= ${#rules[@]}; number++)); do cat "$outputs/$number"; done
    ! grep -q '^not ok' "$outputs"/* || failed=1
    rm -rf "$outputs"
}

check_rule() { verdict "$2" "$("check_$1")"; }

# wall.query must find exactly what planted/wall.cpp says.
self_test_wall() {
    local file=test/lint/planted/wall.cpp
    diff <(query_wall "$file" | grep -E "^$file:| error: |not installed|failed") \
        <(perl -ne 'next if $. == 2 || $. == 3; print "'"$file"':$.: $1\n" while /finds: (.*?)(?= finds:|$)/g' "$file" | sort -u) |
        sed -nE 's/^< (.*)/found, but right: \1/p; s/^> (.*)/not found: \1/p'
}

check_plant() {
    local name=$1 scratch found
    if [[ $name == wall ]]; then
        verdict "the wall's rules find what is planted, and nothing else" "$(self_test_wall)"
        return
    fi
    scratch=$(mktemp -d)
    tree_files | tar -cf - -T - | tar -xf - -C "$scratch"
    found=$(cd "$scratch" && { [[ -z $(declare -F "narrow_$name") ]] || "narrow_$name"; } && before=$("check_$name") && "plant_$name" && diff <(echo "$before") <("check_$name") || true)
    rm -rf "$scratch"
    if [[ -n $found ]]; then
        echo "ok - a fault planted against rule $name is found"
    else
        echo "not ok - nothing found of what was planted against rule $name"
    fi
}

case ${1:-} in
'') for_each_rule check_rule; for_each_rule check_plant ;;
--tree) for_each_rule check_rule ;;
--self-test) for_each_rule check_plant ;;
*) echo "usage: test/lint/run.sh [--tree | --self-test]" >&2; exit 2 ;;
esac
exit "$failed"

#!/bin/bash
# The demo: backfill a full-text search index over the PostgreSQL manual.
#
# On a throwaway server, each HTML page of the manual becomes a job. Workers inside the
# server read the pages, strip the markup and fill the index. Some jobs fail and are tried
# again, one page is broken and ends in the dead letter queue, from where it is repaired.
# At the end the numbers must add up, each page indexed exactly once; if not, this fails.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")"
source ../test/lib/common.sh
source ../test/lib/cluster.sh
source ./screen.sh

executors=4
broken_page=sql-select.html
late_page=legalnotice.html
query='skip & locked'
stall_seconds=30

# Called when this script ends, also by Ctrl-C.
before_cluster_stop() { show_cursor; }

# One SQL statement as superuser; rows come without decoration, columns separated by |.
sql() { psql -XqAt -v ON_ERROR_STOP=1 -c "$1"; }

prepare_server() {
    local manual
    manual=$(manual_dir) || die "the PostgreSQL manual is missing; run: test/lib/setup.sh demo"
    cluster_start backfill.max_executors=0
    cp -rL "$manual" "$CLUSTER_DIR/manual"
    psql -Xq -v ON_ERROR_STOP=1 -v manual_dir="$CLUSTER_DIR/manual" -f schema.sql -o /dev/null
    psql -Xq -v ON_ERROR_STOP=1 -f catalogue.sql -o /dev/null
    break_page
    if ((EUID == 0)); then
        chown -R postgres: "$CLUSTER_DIR/manual"
    fi
    total=$(find "$CLUSTER_DIR/manual" -name '*.html' | wc -l)
    say "PostgreSQL $(sql 'SHOW server_version'), backfill $(sql 'SELECT backfill.version()'), fsync $(sql 'SHOW fsync')," \
        "max_worker_processes $(sql 'SHOW max_worker_processes'); the server is in $CLUSTER_DIR"
    say "$(grouped "$total") pages, $(du -ch "$CLUSTER_DIR"/manual/*.html | tail -n 1 | cut -f 1) of HTML"
}

# A page was saved with an editor that writes Windows-1252. Its dashes and quotation
# marks are no longer valid UTF-8.
break_page() {
    perl -MEncode -0777 -i -pe '$_ = encode("cp1252", decode("UTF-8", $_), Encode::FB_CROAK)' "$CLUSTER_DIR/manual/$broken_page"
}

enqueue_pages() {
    local priority function jobs what queued=0
    heading 'Enqueue: one job per page, least urgent first'
    while IFS='|' read -r priority function jobs what; do
        printf '  %-13s %-26s %5d  %s\n' "$priority" "$function" "$jobs" "$what"
        queued=$((queued + jobs))
    done < <(psql -XqAt -v ON_ERROR_STOP=1 -U editor -d postgres -f enqueue.sql)
    # One page is kept back, to be enqueued in the middle of the run.
    ((queued == total - 1)) || die "$queued jobs were enqueued, expected $((total - 1))"
}

# Reads the state of the work into variables; `bands` keeps the rows for the screen.
read_progress() {
    local rows
    rows=$(sql "SELECT * FROM library.progress();
                SELECT count(*), coalesce(sum(jobs_failed), 0) FROM backfill.workers WHERE kind = 'executor'")
    bands=$(head -n 6 <<<"$rows")
    IFS='|' read -r _ _ scheduled ready running finished dead <<<"$(sed -n 7p <<<"$rows")"
    IFS='|' read -r live_executors failures <<<"$(sed -n 8p <<<"$rows")"
}

# In the middle of the run, when all executors are busy with bulk, one page becomes urgent.
enqueue_late_page() {
    psql -XqAt -v ON_ERROR_STOP=1 -U editor -d postgres -c "SELECT clock_timestamp()
          FROM backfill.enqueue_emergency('index_page', '{\"page\": \"$late_page\"}')"
}

# Show the work until nothing waits or runs; give up when nothing moves for a while.
watch_jobs() {
    local started_ms=$1 now last_ms last_finished=0 rate=0 moved_ms
    moved_ms=$started_ms last_ms=$started_ms
    hide_cursor
    while :; do
        read_progress
        now=$(now_ms)
        if ((last_finished == 0 && now > started_ms)); then
            rate=$((finished * 1000 / (now - started_ms)))
        fi
        if ((now - last_ms >= 400)); then
            rate=$(((finished - last_finished) * 1000 / (now - last_ms)))
            ((finished == last_finished)) || moved_ms=$now
            last_ms=$now last_finished=$finished
        fi
        if [[ -z $late_enqueued_at ]] && ((finished * 100 >= total * 45)); then
            late_enqueued_at=$(enqueue_late_page)
            late_waiting=$ready
            continue
        fi
        if ((scheduled + ready + running == 0 && finished + dead >= total)); then
            rate=$((finished * 1000 / (now - started_ms)))
            draw "$finished" "$total" "$rate" $((now - started_ms)) $((failures - dead)) "$dead" "$live_executors" <<<"$bands"
            break
        fi
        draw "$finished" "$total" "$rate" $((now - started_ms)) $((failures - dead)) "$dead" "$live_executors" <<<"$bands"
        ((now - moved_ms < stall_seconds * 1000)) || give_up
        sleep 0.1
    done
    show_cursor
    run_ms=$((now - started_ms))
}

# Nothing moves any more: say what can be seen and fail.
give_up() {
    show_cursor
    warn ""
    warn "error: no page was indexed for $stall_seconds seconds"
    sql "SELECT 'job ' || id || ', ' || state || ', attempt ' || attempts || ', ' || coalesce(last_error ->> 'message', 'no error yet')
           FROM backfill.jobs ORDER BY priority, run_at, id LIMIT 10" >&2
    cluster_log 20 >&2
    exit 1
}

run_jobs() {
    local started_ms
    heading "Run: $executors workers inside the server"
    late_enqueued_at='' late_waiting=0
    started_ms=$(now_ms)
    cluster_reload backfill.max_executors="$executors"
    watch_jobs "$started_ms"
}

show_bands() {
    local band pages first last
    heading 'The priorities decided, not the order of arrival'
    printf '  %s%-14s %7s %12s %12s%s\n' "$dim" priority pages 'first after' 'last after' "$plain"
    while IFS='|' read -r band pages first last; do
        printf '  %-14s %7d %9d ms %9d ms\n' "${band^^}" "$pages" "$first" "$last"
    done < <(sql "SELECT b.name, count(*),
                         (extract(epoch FROM min(e.at) - min(min(e.at)) OVER ()) * 1000)::int,
                         (extract(epoch FROM max(e.at) - min(min(e.at)) OVER ()) * 1000)::int
                    FROM library.effect e JOIN library.catalogue c USING (file)
                    JOIN library.band b ON b.name = library.lane_band(c.lane)
                   WHERE c.lane <> 'late'
                   GROUP BY b.position, b.name ORDER BY b.position")
    say "  $late_page was enqueued as an emergency while $(grouped "$late_waiting") pages waited, and was indexed" \
        "$(sql "SELECT round(extract(epoch FROM at - '$late_enqueued_at') * 1000, 1) FROM library.effect WHERE file = '$late_page'") ms later"
}

# The first few hits of the query. The first statement only loads the dictionary, so that
# the time is that of the search.
search() {
    local on=${bold:-[} off=${plain:-]} title where text found='' found_here time=''
    while IFS=$'\t' read -r title where text found_here; do
        case $title in
        Time:*) time=${title#Time: } ;;
        *)
            found=$found_here
            printf '  %s%s%s  %s%s%s\n      %s\n' "$bold" "$title" "$plain" "$dim" "$where" "$plain" "$text"
            ;;
        esac
    done < <(psql -XqAt -F $'\t' -v ON_ERROR_STOP=1 -v query="$query" -v mark_on="$on" -v mark_off="$off" <<<"
        SELECT to_tsvector('english', 'warm up') \\g /dev/null
        \\timing on
        \\i search.sql")
    [[ -n $found && -n $time ]] || die "the search found nothing"
    say "  $found pages match; found, ranked and excerpted in ${time%% ms*} ms"
}

show_dead_letters() {
    local id page attempts reason
    heading 'The dead letter queue'
    while IFS='|' read -r id page attempts reason; do
        printf '  %s#%d %s%s after %d attempt: %s\n' "$red" "$id" "$page" "$plain" "$attempts" "$reason"
    done < <(sql "SELECT id, payload ->> 'page', failure_count, failure_reason FROM backfill.list_dlq_jobs()")
    dead_before=$(sql 'SELECT count(*) FROM backfill.dlq')
    say "  Without that page, a search for '$query' finds $(sql "SELECT count(*) FROM library.page WHERE search @@ to_tsquery('english', '$query')") pages."
}

# The page is in another encoding, and the handler can be told so: requeue the dead job
# with a corrected payload, under its old id.
repair() {
    local id started_ms
    heading 'The repair: requeue with a corrected payload'
    id=$(sql 'SELECT id FROM backfill.list_dlq_jobs() LIMIT 1')
    [[ -n $id ]] || die "the broken page is not in the dead letter queue"
    say "  SELECT backfill.requeue_dlq_job($id, notes => 'saved as Windows-1252',"
    say "                                  payload => '{\"page\": \"$broken_page\", \"encoding\": \"WIN1252\"}');"
    started_ms=$(now_ms)
    sql "SELECT backfill.requeue_dlq_job($id, notes => 'saved as Windows-1252',
                payload => '{\"page\": \"$broken_page\", \"encoding\": \"WIN1252\"}')" >/dev/null
    while (($(sql "SELECT count(*) FROM library.effect WHERE file = '$broken_page'") == 0)); do
        (($(now_ms) - started_ms < stall_seconds * 1000)) || give_up
        sleep 0.01
    done
    say "  $broken_page is in the index $(($(now_ms) - started_ms)) ms later"
    dead_after=$(sql 'SELECT count(*) FROM backfill.dlq')
}

# check WHAT EXPECTED GOT: prints a line of the sum, and remembers a mismatch.
check() {
    local mark="${green}ok${plain}"
    if [[ $2 != "$3" ]]; then
        mark="${red}WRONG, expected $(grouped "$2")${plain}"
        wrong=yes
    fi
    printf '  %-46s %8s  %s\n' "$1" "$(grouped "$3")" "$mark"
}

sum_up() {
    local indexed effects distinct_effects attempts retried waiting
    heading 'Do the numbers add up?'
    IFS='|' read -r indexed effects distinct_effects attempts waiting <<<"$(sql "
        SELECT (SELECT count(*) FROM library.page), (SELECT count(*) FROM library.effect),
               (SELECT count(DISTINCT file) FROM library.effect), (SELECT last_value FROM library.attempt_seq),
               (SELECT count(*) FROM backfill.jobs)")"
    retried=$((attempts - effects - dead_before))
    wrong=''
    check 'pages in the index' "$total" "$indexed"
    check 'times that a page was indexed' "$total" "$effects"
    check 'different pages among them (so: exactly once)' "$total" "$distinct_effects"
    check 'jobs left' 0 "$waiting"
    check 'dead letters before the repair' 1 "$dead_before"
    check 'dead letters after it' 0 "$dead_after"
    check 'retries that the workers counted' "$retried" $((failures - dead_before))
    say "  $(grouped "$attempts") attempts = $(grouped "$total") pages + $retried retries + $dead_before dead letter"
    if ((retried < 1)); then
        warn "error: no job was ever tried again, so the demo has not shown what it should"
        wrong=yes
    fi
    [[ -z $wrong ]] || die "the numbers do not add up"
}

# What is printed for others to paste is run, so that it is known to work.
try_at_home() {
    local answer
    say "Try it at home: once the library is preloaded (README.md says how), paste this into a shell."
    # Not indented: that would keep the shell from seeing the end.
    say "psql <<'EOF'"
    cat at_home.sql
    say EOF
    answer=$(PGOPTIONS='-c client_min_messages=warning' psql -XqAt -v ON_ERROR_STOP=1 -f at_home.sql)
    [[ $answer == *'hello, world'* ]] || die "what is to be tried at home did not work: $answer"
}

main() {
    heading 'backfill: a full-text index over the PostgreSQL manual, built by jobs'
    prepare_server
    enqueue_pages
    run_jobs
    show_bands
    show_dead_letters
    repair
    heading "A search for '$query'"
    search
    sum_up
    heading "$(grouped "$total") pages in $(seconds "$run_ms") s, $(grouped $((total * 1000 / run_ms))) pages/s"
    try_at_home
}
main

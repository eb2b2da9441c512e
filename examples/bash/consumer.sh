#!/bin/bash
# A consumer of backfill jobs in bash, with psql (and jq to read the payloads).
#
# It claims up to CONCURRENCY jobs at a time, keeps their leases while they run, and stores each
# result in the transaction that completes the job. Where the server is, libpq's variables say
# (PGHOST, PGDATABASE, ...). SIGTERM or SIGINT ends it: it claims no more, gives running jobs GRACE
# seconds to end, and hands back the rest. See ../README.md.
#
# psql cannot sleep until a notification comes, so wait_for_jobs() does that here. Each job is a
# process group in the background. Everything that happens is a line in a pipe, which the main loop reads.
#
# shellcheck disable=SC2317,SC2329 # handlers and traps are called by name
set -uo pipefail
set -m # process groups

worker=${WORKER:-$HOSTNAME-$$}
concurrency=${CONCURRENCY:-4}
lease=${LEASE:-60} # whole seconds, like all that follow
grace=${GRACE:-20}
fallback=${FALLBACK:-30} # claims at least so often, told or not

log() { printf '%s: %s\n' "$worker" "$*" >&2; }

# --- The work: replace this with your own. ------------------------------------------------------
#
# A handler gets the payload and the attempt's number, and prints the result. Its exit code says
# what became of the job, as in sysexits.h; what it printed to stderr is the error.

readonly later=75     # try again in as many seconds as it printed; this costs no attempt
readonly permanent=65 # the job can never succeed

# Behaves as the payload says, in place of an outside service.
pretend() {
    local busy seconds fails
    # Only numbers come out of this: nothing else may reach an arithmetic expression.
    read -r busy seconds fails < <(jq -r '"\((.busy_until // 0) - now | ceil) \(.seconds // 0 | tonumber) \(.fails // 0 | tonumber)"' <<<"$1") || {
        echo 'the payload is not understood' >&2
        exit "$permanent"
    }
    if ((busy > 0)); then
        echo "$busy"
        exit "$later"
    fi
    sleep "$seconds"
    if (($2 <= fails)); then
        echo 'connection reset by peer' >&2
        exit 1
    fi
}

text_of() {
    jq -er .text <<<"$1" || {
        echo 'the payload has no text' >&2
        exit "$permanent"
    }
}

handle_count_words() {
    local text
    pretend "$@"
    text=$(text_of "$1") || exit
    wc -w <<<"$text"
}

handle_shout() {
    local text
    pretend "$@"
    text=$(text_of "$1") || exit
    printf '%s\n' "${text^^}"
}

tasks='{count_words,shout}'

# --- The connection ------------------------------------------------------------------------------

# Run a statement; its parameters are variables: query STATEMENT NAME=VALUE... When the server is
# away, it is sent again. It may have been carried out before, and that does no harm: the repeated
# claim gets other jobs, and those of the first one are free when their lease is over; a job that is
# completed already is just not completed again.
query() {
    local statement=$1 parameters=() delay=1 status
    shift
    while (($#)); do
        parameters+=(-v "$1")
        shift
    done
    for (( ; ; delay = delay < 5 ? delay + 1 : 5)); do
        status=0
        PGAPPNAME=$worker PGCLIENTENCODING=UTF8 LC_ALL=C psql -XqAt -F $'\t' -v ON_ERROR_STOP=1 "${parameters[@]}" <<<"$statement" 2>"$dir/said" || status=$?
        cat "$dir/said" >&2
        is_connection_lost "$status" || return "$status"
        ! is_out_of_time || return 2
        sleep "$delay"
    done
}

# psql ends with 2 if the connection is lost, or there was none. But if it notices that only while it
# reads the answer, as now and then when the server crashes, it takes that for an error of the statement: 3.
is_connection_lost() { (($1 == 2)) || { (($1 == 3)) && grep -q '^server closed the connection unexpectedly' "$dir/said"; }; }

# Jobs are answered for as long as there is time; claims end with the request to end.
is_out_of_time() { [[ -n $stopping ]] && { [[ -n ${claiming:-} ]] || ((SECONDS >= deadline + 5)); }; }

# --- The consumer ------------------------------------------------------------------------------

stopping='' # no more claims
deadline=0  # when it stops: until then running jobs may end
exit_code=0
waiter='' # the process that waits for jobs, or none
# The process groups of the handlers, by TOKEN-ID of the job. The token, too: we may claim a job again
# that we have lost, before we know.
declare -A group=()
next_beat=$((SECONDS + (lease + 2) / 3))

dir=$(mktemp -d) || exit
mkfifo "$dir/events"
exec {events}<>"$dir/events"
partial='' # of the line that is being read
post() { printf '%s\n' "$*" >&"$events"; }

# content VARIABLE FILE: puts the text of the file into the variable, without newlines at its end. The main process has no
# command substitution: bash 5.2 loses a trap that becomes due just when it parses one, and with that the request to end.
content() {
    IFS= read -r -d '' "$1" <"$2" || true
    while [[ ${!1} == *$'\n' ]]; do printf -v "$1" %s "${!1%$'\n'}"; done
}

stop() {
    [[ -z $stopping ]] || return
    stopping=yes
    deadline=$((SECONDS + grace))
    post stop
}
trap stop TERM INT
trap end_children EXIT

# What no repetition will mend ends the consumer, so that its supervisor sees it.
fatal() {
    log "$1"
    exit_code=1
    stop
}

end_children() {
    local pid
    for pid in "${group[@]}" $waiter; do
        kill -- "-$pid" 2>/dev/null
    done
    rm -rf -- "$dir"
}

claim() {
    local free=$((concurrency - ${#group[@]})) claiming=yes id claim_token task attempt max_attempts payload n=0 job
    ((free > 0)) || return 0
    query "SELECT id, claim_token, task_identifier, attempt, max_attempts, payload
             FROM backfill.claim_jobs(:'worker', tasks => :'tasks', max_jobs => :free, lease => :'lease')" \
        worker="$worker" tasks="$tasks" free="$free" lease="$lease s" >"$dir/claimed" || return
    while IFS=$'\t' read -r id claim_token task attempt max_attempts payload; do
        log "job $id: begins $task, attempt $attempt of $max_attempts"
        job=$claim_token-$id
        { ("handle_$task" "$payload" "$attempt" >"$dir/$job.out" 2>"$dir/$job.err"); post "ended $job $?"; } &
        group[$job]=$!
        n=$((n + 1))
    done <"$dir/claimed"
    if ((n < free)) && [[ -z $waiter ]]; then
        { wait_for_jobs; post claim; } &
        waiter=$!
    fi
}

wait_for_jobs() {
    PGAPPNAME=$worker PGCLIENTENCODING=UTF8 psql -XqAt -v tasks="$tasks" -v timeout="$fallback s" >/dev/null 2>&1 <<<"CALL backfill.wait_for_jobs(:'timeout', tasks => :'tasks')" ||
        sleep 1
}

# answer TOKEN-ID OUTCOME STATEMENT [NAME=VALUE...]: no row comes back if the claim does not have the job any more.
answer() {
    local id=${1#*-} token=${1%-*} outcome=$2 statement=$3 rows
    shift 3
    query "$statement" id="$id" token="$token" "$@" >"$dir/rows" || {
        fatal "job $id: no answer"
        return
    }
    content rows "$dir/rows"
    [[ -n $rows ]] || outcome='was not ours any more'
    [[ $outcome != failed ]] || outcome="failed ($rows): $error"
    log "job $id: $outcome"
}

# finish TOKEN-ID EXIT_CODE
finish() {
    local job=$1 error='' result='' never=NULL
    [[ -n ${group[$job]:-} ]] || return 0 # dropped before
    content result "$dir/$job.out"
    tail -n 1 "$dir/$job.err" >"$dir/rows"
    content error "$dir/rows"
    (($2 != permanent)) || never=true
    case $2 in
    0)
        answer "$job" completed "INSERT INTO examples.result (job_id, worker, result)
            SELECT id, :'worker', :'result' FROM backfill.complete_jobs(ARRAY[:id], :token) id RETURNING job_id" \
            worker="$worker" result="$result"
        ;;
    "$later")
        answer "$job" "snoozed for $result s" "SELECT true WHERE backfill.snooze_job(:id, :token, :'delay')" delay="$result s"
        ;;
    *) # permanent NULL: the text decides
        answer "$job" failed "SELECT backfill.fail_job(:id, :token, :'error', :permanent)" \
            error="${error:-exit code $2}" permanent="$never"
        ;;
    esac
    forget "$job"
}

forget() {
    unset "group[$1]"
    rm -f "$dir/$1".*
}

# Send heartbeats, three in the time of a lease, and drop the jobs that are lost.
keep_leases() {
    local token job held
    local -A tokens=()
    for job in "${!group[@]}"; do tokens[${job%-*}]=yes; done
    for token in "${!tokens[@]}"; do
        query "SELECT * FROM backfill.heartbeat(:token, :'lease')" token="$token" lease="$lease s" >"$dir/rows" || return
        content held "$dir/rows"
        for job in "${!group[@]}"; do
            if [[ ${job%-*} == "$token" && $'\n'$held$'\n' != *$'\n'${job#*-}$'\n'* ]]; then
                kill -- "-${group[$job]}" 2>/dev/null
                log "job ${job#*-}: dropped, its lease is over"
                forget "$job"
            fi
        done
    done
    # The process that waits for jobs may have ended.
    [[ -z $waiter ]] || kill -0 "$waiter" 2>/dev/null || post claim
    next_beat=$((SECONDS + (lease + 2) / 3))
}

release_running() {
    local job
    for job in "${!group[@]}"; do
        kill -- "-${group[$job]}" 2>/dev/null
        answer "$job" released "SELECT * FROM backfill.release_jobs(ARRAY[:id], :token)"
        forget "$job"
    done
}

# The next line of the pipe, or nothing if there is something else to do before. A time limit that
# strikes in the middle of a line leaves its beginning for the next call.
next_event() {
    local until=$next_beat line=''
    ((!deadline || deadline > until)) || until=$deadline
    event=()
    ((until > SECONDS)) || return 0
    if read -r -t "$((until - SECONDS))" -u "$events" line; then
        read -r -a event <<<"$partial$line"
        partial=''
    else
        partial+=$line
    fi
}

log 'begins'
post claim
while [[ -z $stopping || ${#group[@]} -gt 0 ]]; do
    next_event
    case ${event[0]:-} in
    claim)
        waiter=''
        [[ -n $stopping ]] || claim || [[ -n $stopping ]] || fatal 'could not claim'
        ;;
    ended)
        finish "${event[@]:1}"
        [[ -n $stopping ]] || claim || [[ -n $stopping ]] || fatal 'could not claim'
        ;;
    stop) ((${#group[@]} == 0)) || log "waits for ${#group[@]} jobs" ;;
    esac
    ((SECONDS < next_beat)) || keep_leases
    [[ -z $stopping ]] || ((SECONDS < deadline)) || release_running
done
log 'ends'
exit "$exit_code"

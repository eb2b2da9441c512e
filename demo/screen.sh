# shellcheck shell=bash
# What the demo shows while the jobs run: on a terminal one block that redraws itself,
# elsewhere a plain line now and then. Sourced by run.sh.

# shellcheck disable=SC2034  # run.sh uses the rest of these
# Colours and redrawing only on a terminal.
if [[ -t 1 && ${TERM:-dumb} != dumb ]]; then
    on_terminal=yes
    bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
    if [[ -n ${NO_COLOR:-} ]]; then
        dim='' green='' red=''
    fi
else
    on_terminal='' bold='' dim='' green='' red='' plain=''
fi

# Blocks make a better bar, where the terminal can show them.
if [[ $on_terminal && $terminal_charmap == UTF-8 ]]; then
    bar_full=█ bar_empty=░
else
    bar_full='#' bar_empty='.'
fi

block_lines=0
last_line_ms=0

# How many columns the terminal has now.
terminal_width() {
    local size
    size=$({ stty size </dev/tty; } 2>/dev/null) || size='0 0'
    size=${size#* }
    printf '%d' $((size > 0 ? size : 80))
}

# Milliseconds since 1970.
now_ms() { local t=${EPOCHREALTIME/[.,]/}; printf '%s' $((t / 1000)); }

# 1234567 -> 1,234,567
grouped() { sed -E ':a; s/^([0-9]+)([0-9]{3})/\1,\2/; ta' <<<"$1"; }

# 1234 -> 1.2 (milliseconds to seconds)
seconds() { printf '%d.%d' $(($1 / 1000)) $(($1 % 1000 / 100)); }

heading() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }

# repeated CHARACTER TIMES
repeated() {
    local i text=
    for ((i = 0; i < $2; i++)); do text+=$1; done
    printf '%s' "$text"
}

# draw FINISHED TOTAL RATE ELAPSED_MS RETRIES DEAD EXECUTORS < one line per priority band:
# name|pages|scheduled|ready|running|done|dead
draw() {
    local finished=$1 total=$2 rate=$3 elapsed=$4 retries=$5 dead=$6 executors=$7
    local band pages scheduled ready running band_done band_dead colour figures width filled
    if [[ ! $on_terminal ]]; then
        draw_line "$@"
        return
    fi
    # A line must not wrap, or the block would not be where it is redrawn: the bar takes what is left.
    figures=$(printf '%3d %%  %s of %s pages  %s pages/s  %s s' $((finished * 100 / total)) "$(grouped "$finished")" \
        "$(grouped "$total")" "$(grouped "$rate")" "$(seconds "$elapsed")")
    width=$(($(terminal_width) - 4 - ${#figures}))
    width=$((width > 40 ? 40 : width < 0 ? 0 : width))
    filled=$((finished * width / total))
    ((block_lines == 0)) || printf '\e[%dA' "$block_lines"
    printf '\e[K\n'
    printf '  %s%s%s%s%s %s\e[K\n' "$green" "$(repeated "$bar_full" "$filled")" \
        "$dim" "$(repeated "$bar_empty" $((width - filled)))" "$plain" "$figures"
    printf '\e[K\n  %s%-14s %7s %7s %9s %9s %9s%s\e[K\n' "$dim" priority pages 'done' running ready retrying "$plain"
    block_lines=4
    while IFS='|' read -r band pages scheduled ready running band_done band_dead; do
        colour=''
        ((running == 0)) || colour=$bold
        ((band_done + band_dead < pages)) || colour=$green
        printf '  %s%-14s %7d %7d %9d %9d %9d%s\e[K\n' "$colour" "${band^^}" "$pages" "$band_done" "$running" "$ready" "$scheduled" "$plain"
        block_lines=$((block_lines + 1))
    done
    printf '\e[K\n  retries so far %-5d dead letters %-3d executors %d\e[K\n' "$retries" "$dead" "$executors"
    block_lines=$((block_lines + 2))
}

# The same without a terminal, at most once a second and once at the end.
draw_line() {
    local finished=$1 total=$2 rate=$3 elapsed=$4 retries=$5 dead=$6 executors=$7
    cat >/dev/null
    ((finished + dead >= total || elapsed - last_line_ms >= 1000 || last_line_ms == 0)) || return 0
    last_line_ms=$((elapsed > 0 ? elapsed : 1))
    printf '  %3d %%  %s of %s pages, %s pages/s, %s s, %d retries, %d dead letters, %d executors\n' $((finished * 100 / total)) \
        "$(grouped "$finished")" "$(grouped "$total")" "$(grouped "$rate")" "$(seconds "$elapsed")" "$retries" "$dead" "$executors"
}

# Nor do lines wrap that are too long for a narrow terminal: they are cut.
hide_cursor() { [[ ! $on_terminal ]] || printf '\e[?25l\e[?7l'; }
show_cursor() { [[ ! $on_terminal ]] || printf '\e[?25h\e[?7h'; }

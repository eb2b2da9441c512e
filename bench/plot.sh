#!/bin/bash
# Draws what bench/run.sh snapshot noted of its last run: how fast the queues drain over
# time, with and without an old snapshot that keeps all dead rows alive. Needs gnuplot
# (Debian: gnuplot-nox).
#
#   bench/plot.sh [PROGRESS.tsv [PICTURE.svg]]    (default: the newest result, docs/drain.svg)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ../test/lib/common.sh

data=${1:-$(find results -name '*.progress.tsv' 2>/dev/null | sort | tail -n 1)}
picture=${2:-$BACKFILL_ROOT/docs/drain.svg}
[[ -f ${data:-} ]] || die "no progress was measured yet: bench/run.sh snapshot"
command -v gnuplot >/dev/null || die "gnuplot is missing (Debian: gnuplot-nox)"
rates=$(mktemp -d "$TMPDIR/backfill-plot.XXXXXX")
trap 'rm -rf "$rates"' EXIT

# Jobs per second over steps of a fifth of a second or so, a file per series.
awk -F '\t' -v dir="$rates" '
    $1 != series { series = $1; at = 0; done = 0; last = "" }
    $3 == last { next } # its end is noted twice when nothing was left
    $2 - at >= 0.2 { file = $1; gsub(/[^a-z]+/, "_", file); print (at + $2) / 2, ($3 - done) / ($2 - at) >(dir "/" file); at = $2; done = $3; last = $3 }' "$data"

gnuplot <<EOF
set terminal svg size 760,380 font 'sans-serif,13' background rgb 'white'
set output '$rates/picture.svg'
set logscale y
set yrange [1000:1000000]
set ytics ('1 k' 1e3, '10 k' 1e4, '100 k' 1e5, '1 M' 1e6)
set xlabel 'seconds'
set ylabel 'jobs/s'
set logscale x
set xrange [0.1:*]
set xtics (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
set grid ytics lc rgb '#dddddd'
set border 3
set tics nomirror
set key outside top center horizontal
plot '$rates/backfill' with linespoints lw 2 pt 7 ps 0.4 lc rgb '#1f6feb' title 'backfill', \
     '$rates/backfill_old_snapshot' with linespoints lw 2 pt 7 ps 0.4 dt 2 lc rgb '#1f6feb' title 'with an old snapshot', \
     '$rates/graphile_worker' with linespoints lw 2 pt 7 ps 0.4 lc rgb '#d1662b' title 'graphile-worker', \
     '$rates/graphile_worker_old_snapshot' with linespoints lw 2 pt 7 ps 0.4 dt 2 lc rgb '#d1662b' title 'with an old snapshot'
EOF
sed -E 's/[[:space:]]+$//' "$rates/picture.svg" >"$picture"
say "drawn from ${data#"$BACKFILL_ROOT"/} to ${picture#"$BACKFILL_ROOT"/}"

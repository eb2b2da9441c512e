#!/bin/bash
# Draws what bench/run.sh has measured; README shows it. Needs gnuplot (Debian: gnuplot-nox).
#
#   bench/plot.sh drain [PROGRESS.tsv [PICTURE.svg]]   how fast the queues drain over time, with and
#                 without an old snapshot that keeps all dead rows alive (default: the newest result
#                 of the measure snapshot, docs/drain.svg)
#   bench/plot.sh jobs [RESULTS.json [PICTURE.svg]]    jobs that write, and the speed by the number of
#                 queues (default: the newest result that has both, docs/jobs.svg)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ../test/lib/common.sh

command -v gnuplot >/dev/null || die "gnuplot is missing (Debian: gnuplot-nox)"
work=$(mktemp -d "$TMPDIR/backfill-plot.XXXXXX")
trap 'rm -rf "$work"' EXIT

# draw DATA PICTURE: runs gnuplot's commands from the standard input.
draw() {
    gnuplot
    sed -E 's/[[:space:]]+$//' "$work/picture.svg" >"$2"
    say "drawn from ${1#"$BACKFILL_ROOT"/} to ${2#"$BACKFILL_ROOT"/}"
}

draw_drain() {
    local data=${1:-$(find results -name '*.progress.tsv' 2>/dev/null | sort | tail -n 1)}
    [[ -f ${data:-} ]] || die "no progress was measured yet: bench/run.sh snapshot"
    # Jobs per second over steps of a fifth of a second or so, a file per series.
    awk -F '\t' -v dir="$work" '
        $1 != series { series = $1; at = 0; done = 0; last = "" }
        $3 == last { next } # its end is noted twice when nothing was left
        $2 - at >= 0.2 { file = $1; gsub(/[^a-z]+/, "_", file); print (at + $2) / 2, ($3 - done) / ($2 - at) >(dir "/" file); at = $2; done = $3; last = $3 }' "$data"
    draw "$data" "${2:-$BACKFILL_ROOT/docs/drain.svg}" <<EOF
set terminal svg size 760,380 font 'sans-serif,13' background rgb 'white'
set output '$work/picture.svg'
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
plot '$work/backfill' with linespoints lw 2 pt 7 ps 0.4 lc rgb '#1f6feb' title 'backfill', \
     '$work/backfill_old_snapshot' with linespoints lw 2 pt 7 ps 0.4 dt 2 lc rgb '#1f6feb' title 'with an old snapshot', \
     '$work/graphile_worker' with linespoints lw 2 pt 7 ps 0.4 lc rgb '#d1662b' title 'graphile-worker', \
     '$work/graphile_worker_old_snapshot' with linespoints lw 2 pt 7 ps 0.4 dt 2 lc rgb '#d1662b' title 'with an old snapshot'
EOF
}

# Writes the files `writes` (name and jobs/s, by workers) and `queues` (their number and jobs/s) from a
# result; fails if it does not have both.
read_results() {
    perl -MJSON::PP -we '
        my ($file, $dir) = @ARGV;
        open(my $in, "<", $file) or die;
        my $results = decode_json(join("", <$in>))->{results};
        my (%writes, %queues);
        $_->{rival} =~ s/ loop$// for grep { $_->{rival} } @$results; # short enough for a label
        for my $r (@$results) {
            if ($r->{measure} =~ /^drain of jobs that insert a row, (\d) worker/) {
                $writes{backfill}{$1} = $r->{value};
                $writes{ $r->{rival} }{$1} = $r->{rival_value} if $r->{rival} !~ /^itself/;
            }
            if ($r->{measure} =~ /^drain of \d+ jobs in (\d+) serial queues$/) {
                $queues{$1} = $r->{value};
                $queues{1} //= $r->{rival_value};
            }
        }
        exit 1 if !%writes || !%queues;
        open(my $w, ">", "$dir/writes") or die;
        printf $w "\"%s\" %s %s\n", $_, map { $_ // 0 } @{ $writes{$_} }{1, 2} for sort { ($writes{$b}{2} // 0) <=> ($writes{$a}{2} // 0) } keys %writes;
        open(my $q, ">", "$dir/queues") or die;
        print $q "$_ $queues{$_}\n" for sort { $a <=> $b } keys %queues;' "$1" "$work"
}

draw_jobs() {
    local data=${1:-} file
    if [[ -z $data ]]; then
        while read -r file; do
            if read_results "$file"; then
                data=$file
                break
            fi
        done < <(find results -name '*.json' 2>/dev/null | sort -r)
    fi
    [[ -f $data ]] || die "no such result was measured yet: bench/run.sh insert queues"
    read_results "$data" || die "$data does not have both the measures insert and queues"
    draw "$data" "${2:-$BACKFILL_ROOT/docs/jobs.svg}" <<EOF
set terminal svg size 760,320 font 'sans-serif,13' background rgb 'white'
set output '$work/picture.svg'
set multiplot layout 1,2
set rmargin 5
set grid ytics lc rgb '#dddddd'
set border 3
set tics nomirror out
set format y '%.0s %c'
set yrange [0:*]
set title 'jobs that insert a row, jobs/s'
set style data histograms
set style fill solid 0.9
set boxwidth 0.9
set xtics scale 0 font ',11'
set key top right
plot '$work/writes' using 2:xtic(1) lc rgb '#9ec1f7' title '1 worker', '' using 3 lc rgb '#1f6feb' title '2 workers'
unset key
set title 'no-op jobs by the number of serial queues, jobs/s'
set logscale x
set xtics scale 1 font ',13' ('1' 1, '1,000' 1e3, '10,000' 1e4, '100,000' 1e5, '1 M' 1e6)
plot '$work/queues' with linespoints lw 2 pt 7 ps 0.5 lc rgb '#1f6feb'
unset multiplot
EOF
}

case ${1:-} in
    drain | jobs) "draw_$1" "${@:2}" ;;
    *) die "usage: bench/plot.sh drain|jobs [RESULT [PICTURE]]" ;;
esac

#!/usr/bin/perl
# Prints where the TAP tests given as arguments wait in a way that a slow machine breaks: a number of
# tries in place of a deadline, no limit at all, or a wait whose failure goes unnoticed. What to
# use is in test/lib/Backfill.pm: wait_until() and try_until().
use strict;
use warnings;

my $found = 0;
foreach my $file (@ARGV)
{
	open my $in, '<', $file or die "could not open $file: $!\n";
	my $text = do { local $/; <$in> };
	close $in;
	my $complain = sub {
		my ($at, $what) = @_;
		printf "%s:%d: %s\n", $file, 1 + (substr($text, 0, $at) =~ tr/\n//), $what;
		$found = 1;
	};

	while ($text =~ /^\t*\$\w+->poll_query_until\(((?:.|\n)*?);\n/mg)
	{
		$complain->($-[0], 'poll_query_until() whose failure goes unnoticed') if $1 !~ /\bor\b/;
	}
	# A body ends at the brace that is indented like its head.
	while ($text =~ /^(\t*)(?:(for|foreach|while|until)\b(.*))\n\1\{\n((?:.|\n)*?)\n\1\}/mg)
	{
		my ($at, $next, $kind, $head, $body) = ($-[0], $+[3], $2, $3, $4);
		pos($text) = $next; # also into the body
		my $ends = $body =~ /\blast (?:if|unless)\b|\bor last\b/;
		$complain->($at, 'a number of tries is no deadline') if $head =~ /\(\d+ \.\. / && $ends && $body =~ /\b(?:sql|\w*psql|query\w*|\w+_lines|kill)\b/;
		next if $kind =~ /^for/ && $head !~ /^\s*\([^'"]*;/;
		$complain->($at, 'a loop that waits without a deadline')
		  if "$head\n$body" =~ /\b(?:sql|try_sql|safe_psql|psql|query|query_safe|poll_query_until|slurp_file|kill)\b/
		  && "$head\n$body" !~ /deadline|timeout_default|pumpable/;
	}
}
exit $found;

#!/usr/bin/perl
# Prints where the tests given as arguments sleep. A test waits for a condition; only a job may
# sleep, as its work: in a function's $$...$$ body, or in a payload that says what to run.
use strict;
use warnings;

my $found = 0;
foreach my $file (@ARGV)
{
	open my $in, '<', $file or die "could not open $file: $!\n";
	my $text = do { local $/; <$in> };
	close $in;
	$text =~ s{^(\s*(?:#|--)[^\n]*)}{' ' x length $1}gme;
	while ($text =~ /\bpg_sleep\w*\s*\(|(?<![\w\$'"-])u?sleep\s*[\(\d]|\bselect\s*\(\s*undef/g)
	{
		my $at = $-[0];
		my $before = substr($text, 0, $at);
		my $in_body = () = $before =~ /(?<!\w)\$\w*\$/g;
		my ($line_before) = $before =~ /([^\n]*)$/;
		next if $file =~ m{lib/Backfill\.pm$} && $line_before =~ /^sub pause \{ $/;
		next if $in_body % 2 || $line_before =~ /"run"\s*:|^\s*'\w{5}' => q/;
		printf "%s:%d: %s\n", $file, 1 + ($before =~ tr/\n//), 'sleeps outside of a job';
		$found = 1;
	}
}
exit $found;

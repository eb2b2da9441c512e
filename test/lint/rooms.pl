# Prints includes that run up the rooms of the source tree, and modules that include each other in a
# circle. A room is a directory of src, or bgworker, or a file of src itself; a module is a header
# with its source file.
#
#   perl test/lint/rooms.pl FILE...
use strict;
use warnings FATAL => 'all';

# From the top down. What each of them is for stands in ARCHITECTURE.md.
my @rooms = qw(module bgworker api pg_hooks cron control consumers run insight enqueue settle dequeue
  audit call commit stats config shmem guc clock table pg core);
my %rank = map { $rooms[$_] => $_ } 0 .. $#rooms;

# src/run/batch.cpp and include/backfill/run/batch.hpp are the module run/batch.
sub module_of
{
	my ($path) = @_;
	return $path =~ s{^(?:src|include/backfill)/}{}r =~ s{\.[ch]pp$}{}r;
}

sub room_of
{
	my ($module) = @_;
	return $module =~ s{/.*}{}r;
}

my %includes;
for my $file (@ARGV)
{
	my $module = module_of($file);
	next if $module eq 'precompiled'; # all of PostgreSQL's headers, and nothing of ours
	my $rank = $rank{ room_of($module) };
	if (!defined $rank)
	{
		print "$file: is in no room: add its directory to the list in test/lint/rooms.pl\n";
		next;
	}
	open my $source, '<', $file or die "could not open $file: $!\n";
	while (my $line = <$source>)
	{
		next unless $line =~ m{^#include "backfill/(.*)"};
		my $target = module_of($1);
		my $target_rank = $rank{ room_of($target) };
		print "$file:$.: includes $target, which is in no room\n" if !defined $target_rank;
		print "$file:$.: includes $target, which is in a room above\n" if defined $target_rank && $target_rank < $rank;
		$includes{$module}{$target} = 1 if $target ne $module;
	}
	close $source;
}

# Depth first; what is on the path when it is met again closes a circle.
my (%done, @path, %on_path);
sub visit
{
	my ($module) = @_;
	if ($on_path{$module})
	{
		my ($start) = grep { $path[$_] eq $module } 0 .. $#path;
		print 'circle of includes: ', join(' -> ', @path[ $start .. $#path ], $module), "\n";
		return;
	}
	return if $done{$module}++;
	push @path, $module;
	$on_path{$module} = 1;
	visit($_) for sort keys %{ $includes{$module} };
	delete $on_path{$module};
	pop @path;
	return;
}
visit($_) for sort keys %includes;

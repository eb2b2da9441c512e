#!/usr/bin/perl
# Prints the SQL statements that stand as string literals in C++ sources, one a line.
# Adjacent literals are joined, as the compiler does. Used by sql_in_sources.sql.
#
#   perl sql_in_sources.pl DIRECTORY...
use strict;
use warnings;
use File::Find;

my @files;
find({ wanted => sub { push @files, $_ if /\.(?:cpp|hpp)$/ }, no_chdir => 1 }, @ARGV);
for my $file (sort @files)
{
	local $/;
	open(my $handle, '<', $file) or die "could not open $file: $!\n";
	my $text = <$handle>;
	$text =~ s{/\*.*?\*/}{ }gs;
	while ($text =~ /((?:"(?:[^"\\\n]|\\.)*"\s*)+)/g)
	{
		my $statement = join '', $1 =~ /"((?:[^"\\\n]|\\.)*)"/g;
		# A name is still to come, which is not known here.
		next if $statement =~ /\.$/ && substr($text, pos $text) =~ /^\+/;
		$statement =~ s/\\n/ /g;
		$statement =~ s/\\(.)/$1/g;
		print "$statement\n" if $statement =~ /^\s*(?:SELECT|INSERT|UPDATE|DELETE|MERGE|TRUNCATE|LOCK|WITH) /;
	}
}

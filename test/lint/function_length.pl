# Prints the functions of C++ that are longer than 60 lines, from brace to brace. The sources are
# formatted, so a function's braces stand alone at its indentation: none at file level, four blanks in
# a class.
#
#   perl test/lint/function_length.pl FILE...
use strict;
use warnings FATAL => 'all';

my $most = 60;

for my $file (@ARGV)
{
	open my $in, '<', $file or die "$file: $!\n";
	my @lines = <$in>;
	close $in;
	my %start; # by indentation
	for my $i (1 .. $#lines)
	{
		if ($lines[$i] =~ /^( {0,4})\{$/ && $lines[ $i - 1 ] !~ /^\s*(?:class|struct|union|enum|namespace|extern)\b/)
		{
			$start{ length $1 } = $i;
		}
		elsif ($lines[$i] =~ /^( {0,4})\}$/ && defined(my $from = delete $start{ length $1 }))
		{
			my $length = $i - $from + 1;
			print "$file:$from: $length lines, from brace to brace\n" if $length > $most;
		}
	}
}

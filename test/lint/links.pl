# Prints links in Markdown files that lead nowhere: to a file that is not there, to a heading that its
# file does not have, or by a name that is not defined; and names that no link uses. Addresses of other sites
# are not looked at.
#
#   perl test/lint/links.pl FILE...
use strict;
use warnings FATAL => 'all';
use File::Basename qw(dirname);
use File::Spec;
use open qw(:std :encoding(UTF-8));

# The text of a file without code: blocks by fences or by indentation, and words in backticks.
sub prose
{
	my ($file) = @_;
	open my $in, '<', $file or die "could not open $file: $!\n";
	my ($fence, @lines) = ('');
	for my $line (<$in>)
	{
		if ($line =~ /^\s*(```|~~~)/) { $fence = $fence eq '' ? $1 : $fence eq $1 ? '' : $fence; $line = "\n"; }
		$line = "\n" if $fence ne '' || $line =~ /^    (?![-*\d])/;
		push @lines, $line;
	}
	close $in;
	return @lines;
}

# The anchors of a file's headings, made as GitHub makes them.
my %anchors;
sub anchors
{
	my ($file) = @_;
	return $anchors{$file} //= do
	{
		my (%seen, %found);
		for my $line (prose($file))
		{
			my ($heading) = $line =~ /^#{1,6}\s+(.*?)\s*#*$/ or next;
			$heading =~ s/\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])/$1/g;
			my $anchor = lc $heading =~ s/[^\w\- ]//gr =~ s/ /-/gr;
			my $times = $seen{$anchor}++;
			$found{ $anchor . ($times ? "-$times" : '') } = 1;
		}
		\%found;
	};
}

# A path without "..", as far as it stays below the current directory.
sub simplified
{
	my @parts;
	for my $part (split m{/}, shift)
	{
		next if $part eq '.' || $part eq '';
		if ($part eq '..' && @parts && $parts[-1] ne '..') { pop @parts; }
		else { push @parts, $part; }
	}
	return join '/', @parts;
}

sub check
{
	my ($where, $file, $target) = @_;
	return if $target =~ /^[a-z][a-z+.-]*:/i;
	my ($path, $anchor) = $target =~ /^([^#]*)(?:#(.*))?$/;
	my $to = $path eq '' ? $file : simplified(dirname($file) . "/$path");
	if (!-e $to) { print "$where: $target: there is no $to\n"; }
	elsif (defined $anchor && $to =~ /\.md$/ && !anchors($to)->{$anchor}) { print "$where: $target: $to has no such heading\n"; }
}

for my $file (@ARGV)
{
	my (%defined, %used);
	my @lines = prose($file);
	for my $number (1 .. @lines)
	{
		next unless $lines[ $number - 1 ] =~ /^\s{0,3}\[([^\]]+)\]:\s*(\S+)/;
		$defined{ lc $1 } = $number;
		check("$file:$number", $file, $2);
		$lines[ $number - 1 ] = "\n";
	}
	# A link may be broken between its words.
	my $text = join '', @lines;
	$text =~ s/(`+)(.*?)\1/'x' x length($2)/gse;
	while ($text =~ /\[((?:[^\[\]]|\[[^\]]*\])*)\](?:\(\s*(\S+?)(?:\s+"[^"]*")?\s*\)|\[([^\]]*)\])/g)
	{
		my ($words, $target, $name) = ($1, $2, $3);
		my $where = "$file:" . (1 + (substr($text, 0, $-[0]) =~ tr/\n//));
		if (defined $target) { check($where, $file, $target); next; }
		$name = lc($name eq '' ? $words : $name);
		$used{$name} = 1;
		print "$where: [$name] is not defined\n" unless $defined{$name};
	}
	for my $name (sort keys %defined)
	{
		print "$file:$defined{$name}: no link uses [$name]\n" unless $used{$name} || $text =~ /\[\Q$name\E\]/i;
	}
}

# Prints words and phrases that this project's English does without: in prose, comments, messages,
# SQL comments and names of tests. CONTRIBUTING.md says what to write instead.
#
#   perl test/lint/words.pl FILE...
use strict;
use warnings FATAL => 'all';

# What a line break in a comment looks like: the break, and the comment's leader on the next line.
my $gap = qr{(?:[ \t]|\n[ \t]*(?:///?|\*|\#|--|")?[ \t]*)+};

# Each with what to write in its place.
my @words = (
	[ qr{\bshall\b}i, 'must, should or will' ],
	[ qr{\b(?:who|whoever|whom)\b}i, 'name the actor: a session, a role, an executor' ],
	[ qr{\b(?:some|no|any|every)body\b|\b(?:some|any|every)one\b}i, 'name the actor' ],
	[ qr{\bpeople\b}i, 'operators, users, developers' ],
	[ qr{\b(?:he|him|himself|his|she|hers?|herself)\b}i, 'name the actor, or write its' ],
	[ qr{\bso${gap}(?:many|long)\b}i, 'name the argument or the number' ],
	[ qr{\bt(?:ake|akes|aken|aking|ook)\b[^.;:()]{1,60}?\balong\b}i, 'say what happens to it' ],
	[ qr{,${gap}for\b(?!${gap}(?:example|instance)\b)}, 'because' ],
);

# What stays: a file, the words as they stand there, and why.
my @exceptions = (
	[ 'LICENSE', 'SHALL', 'the text of the licence' ],
	[ 'debian/copyright', 'SHALL', 'the text of the licence' ],
	[ 'debian/copyright', 'shall', 'the text of a licence' ],
	[ 'debian/copyright', 'whom', 'the text of a licence' ],
	[ 'test/lint/run.sh', 'nobody', 'the fault that is planted against this rule' ],
);

my %except = map { +"$_->[0]\n$_->[1]" => 1 } @exceptions;

for my $file (@ARGV)
{
	next if $file eq 'test/lint/words.pl'; # the list itself
	open my $in, '<', $file or die "could not open $file: $!\n";
	my $text = do { local $/; <$in> } // '';
	close $in;
	for my $word (@words)
	{
		my ($pattern, $instead) = @$word;
		while ($text =~ /$pattern/g)
		{
			my $line = 1 + (substr($text, 0, $-[0]) =~ tr/\n//);
			my $found = $& =~ s/$gap/ /gr;
			print "$file:$line: \"$found\": $instead\n" if !$except{"$file\n$found"};
		}
	}
}

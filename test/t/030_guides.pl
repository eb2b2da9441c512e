# The guides say what is true: every SQL example in docs/ runs, in order, each guide in a fresh
# database; and whatever docs/compatibility.md names exists, functions and tests. A block that
# must fail is marked with the SQLSTATE, ```sql error=JB001; one of another kind may say where it
# runs, ```psql router.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $node = preloaded('guides', conf => "backfill.max_executors = 0\n");

# The blocks of a guide: [line, expected SQLSTATE or '', text].
sub sql_blocks
{
	my ($file) = @_;
	my ($number, @blocks, $open) = (0);
	for my $line (split /\n/, slurp_file($file))
	{
		$number++;
		if ($open)
		{
			if ($line eq '```') { push @blocks, $open if $open->[1] ne 'other'; undef $open; }
			else { $open->[2] .= "$line\n"; }
		}
		elsif ($line =~ /^```(\S*)(?: error=(\w+)| \w+)?$/) { $open = [ $number, $1 eq 'sql' ? $2 // '' : 'other', '' ]; }
	}
	die "$file: a block does not end" if $open;
	return @blocks;
}

# The guide to schedules needs pg_cron: 042_cron_guide.pl.
my @guides = grep { !m{/cron\.md$} } sort glob "$top/docs/*.md";
cmp_ok(scalar(@guides), '>=', 8, 'there are guides');
my $examples = 0;
for my $file (@guides)
{
	my ($name) = $file =~ m{([^/]+)\.md$};
	my @blocks = sql_blocks($file);
	$examples += @blocks;
	next unless @blocks;
	$node->safe_psql('postgres', qq{CREATE DATABASE "$name"});
	# Guides begin with the extension in place, except the one that creates it.
	create_extension($node, $name) unless $blocks[0][2] =~ /CREATE EXTENSION/;
	for my $block (@blocks)
	{
		my ($line, $sqlstate, $sql) = @$block;
		my ($code, $out, $err) = finish_psql(start_psql($node, $name, "SET statement_timeout = '60s';\n\\set VERBOSITY sqlstate\n$sql"));
		my ($got) = $err =~ /ERROR:  (\w{5})$/m;
		is($got // ($code == 0 ? '' : $err), $sqlstate, "docs/$name.md, the example in line $line " . ($sqlstate ? "fails with $sqlstate" : 'runs'));
	}
}
cmp_ok($examples, '>=', 40, 'with examples');

# --- docs/compatibility.md: rows of | what | here | test |.

create_extension($node);
my %exists = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', q{
	SELECT proname FROM pg_proc WHERE pronamespace = 'backfill'::regnamespace
	UNION SELECT relname FROM pg_class WHERE relnamespace = 'backfill'::regnamespace
	UNION SELECT typname FROM pg_type WHERE typnamespace = 'backfill'::regnamespace
	UNION SELECT name FROM pg_settings WHERE name LIKE 'backfill.%'
	UNION SELECT policy_name FROM backfill.retry_policies});
my ($rows, @missing) = (0);
for my $line (split /\n/, slurp_file("$top/docs/compatibility.md"))
{
	my @cells = map { s/^\s+|\s+$//gr } split /(?<!\\)\|/, $line;
	next unless @cells >= 3 && $cells[1] !~ /^(-*|item|function)$/ && $cells[1] ne '';
	my ($item, $here, $test) = @cells[ 1 .. 3 ];
	$rows++;
	next unless defined $test && $test ne '';    # merged later, with its feature
	for my $object ($here =~ /`(?:backfill\.)?(\w+)\(/g, $here =~ /`(backfill\.\w+)`/g)
	{
		(my $plain = $object) =~ s/^backfill\.//;
		push @missing, "$item: $object" unless $exists{$object} || $exists{$plain};
	}
	for my $path ($test =~ m{`([^`]+)`}g)
	{
		push @missing, "$item: test $path" unless -f "$top/test/$path";
	}
	push @missing, "$item: no test is named" unless $test =~ /`/;
}
cmp_ok($rows, '>', 60, 'docs/compatibility.md has a row for every item');
is(join("\n", @missing), '', 'and what it names exists');

$node->stop;
check_log($node);
done_testing();

# Cron expressions mean what they mean elsewhere: random ones against python3-croniter and,
# where the syntax is the same, against pg_cron's own parser.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('oracles', conf => "shared_preload_libraries = 'backfill, pg_cron'\ntimezone = 'UTC'\n");
$node->start;
create_extension($node);
$node->safe_psql('postgres', 'CREATE EXTENSION pg_cron');

# pg_cron's parser is reached by a little C function, built here.
my $oracles = "$FindBin::RealBin/../oracles";
my $module = PostgreSQL::Test::Utils::tempdir() . '/pg_cron_parser.so';
chomp(my $include = `pg_config --includedir-server`);
system_or_bail('cc', '-shared', '-fPIC', '-Wno-pointer-arith', "-I$include", '-o', $module, "$oracles/pg_cron_parser.c");
$node->safe_psql('postgres', "CREATE FUNCTION pg_cron_next(text, timestamptz, boolean) RETURNS timestamptz LANGUAGE c STRICT AS '$module'");
my $legacy = $node->safe_psql('postgres', q{SELECT extversion ~ '^1\.[0-4]' FROM pg_extension WHERE extname = 'pg_cron'});

srand(20260105);
sub between { my ($from, $to) = @_; return $from + int rand($to - $from + 1); }
sub one_of { return $_[ int rand @_ ]; }

# A random field. Names and steps of ranges appear where they may; "any" makes it restrict
# nothing.
sub field
{
	my ($first, $last, %options) = @_;
	return '*' if $options{any};
	return join ',', map {
		my $from = between($first, $last - 1);
		my $to = between($from + 1, $last);
		my $kind = between(0, $options{steps} ? 4 : 2);
		  $kind == 3 ? '*/' . between(2, int(($last - $first) / 2))
		: $kind == 2 ? "$from-$to"
		: $kind == 4 ? "$from-$to/" . between(1, 5)
		: $options{names} && between(0, 1) ? one_of(@{ $options{names} })
		: $from;
	} 1 .. between(1, 3);
}

# With both day fields in use, steps and complete sets such as 0-6 are left out: whether a
# field restricts the days is decided by its * in pg_cron, and by what it leaves out here.
my @months = qw(jan Feb MAR apr may jun jul aug sep oct nov dec);
my @weekdays = qw(sun Mon TUE wed thu fri sat);
my @expressions;
for (1 .. 1500)
{
	my ($day, $weekday) = @{ one_of([ 1, 1 ], [ 1, 0 ], [ 0, 1 ], [ 0, 0 ]) };
	my $both = !$day && !$weekday;
	push @expressions,
	  join ' ', field(0, 59, steps => 1), field(0, 23, steps => 1, any => between(0, 3) == 0),
	  field(1, 28, steps => !$both, any => $day),
	  field(1, 12, steps => 1, any => between(0, 2) == 0, names => \@months),
	  field(0, $both ? 5 : 6, any => $weekday, names => [ @weekdays[ 0 .. ($both ? 5 : 6) ] ]);
}
push @expressions, '* * * * *', '0 0 29 2 *', '0 0 31 * *', '59 23 31 12 *', '0 0 1 1 0', '*/1 * * * *', '0 0 * * 7';
my @starts = map { 1767225600 + between(0, 3 * 366 * 86400) } @expressions;

my $values = join ",\n", map { "($_, '$expressions[$_]', to_timestamp($starts[$_]))" } 0 .. $#expressions;
$node->safe_psql('postgres', "CREATE TABLE sample (id int, expression text, start timestamptz); INSERT INTO sample VALUES $values");

my $ours = $node->safe_psql('postgres', q{
	SELECT concat_ws(' ', extract(epoch FROM a)::bigint, extract(epoch FROM b)::bigint, extract(epoch FROM backfill.cron_next(expression, 'UTC', b))::bigint)
	  FROM sample, LATERAL (SELECT backfill.cron_next(expression, 'UTC', start) AS a) x, LATERAL (SELECT backfill.cron_next(expression, 'UTC', a) AS b) y ORDER BY id});
my ($theirs, $errors);
my $input = join '', map { "$starts[$_]|$expressions[$_]\n" } 0 .. $#expressions;
ok(IPC::Run::run([ 'python3', "$oracles/croniter_next.py" ], '<', \$input, '>', \$theirs, '2>', \$errors), 'croniter takes all expressions')
  or diag($errors);
my @a = split /\n/, $ours;
my @b = split /\n/, $theirs;
is(scalar @a, scalar @expressions, 'backfill takes all expressions that croniter takes');
my @different = grep { $a[$_] ne ($b[$_] // '') } 0 .. $#a;
is(join("\n", map { "$starts[$_] $expressions[$_]: we say $a[$_], croniter says $b[$_]" } @different[ 0 .. ($#different < 5 ? $#different : 5) ]),
	'', scalar(@expressions) . ' random expressions: the same three times as croniter finds');

# PostgreSQL 16 and later build extensions so that others do not see their functions.
my ($found, undef, $why_not) = $node->psql('postgres', "SELECT pg_cron_next('* * * * *', now(), '$legacy')");
SKIP:
{
	skip 'pg_cron hides its parser', 1 if $found != 0 && $why_not =~ /could not find function "parse_cron_entry"/;

	is($node->safe_psql('postgres', qq{
		SELECT expression, start, backfill.cron_next(expression, 'UTC', start), pg_cron_next(expression, start, '$legacy') FROM sample
		 WHERE backfill.cron_next(expression, 'UTC', start) IS DISTINCT FROM pg_cron_next(expression, start, '$legacy') LIMIT 5}),
		'', 'random expressions: the same next time as pg_cron finds');

	# What the one takes, the other takes, and what it refuses is refused.
	my @taken = ('@yearly', '@annually', '@monthly', '@weekly', '@daily', '@midnight', '@hourly', '0 0 1-1 * *', '0 0 * * 5-7', '0 0 * * 7', '0-59/59 * * * *', "0\t0  1 1 *");
	push @taken, '0 0 $ * *' unless $legacy eq 't';
	is($node->safe_psql('postgres', qq{SELECT coalesce(backfill.cron_next('$_', 'UTC', '2026-01-05') = pg_cron_next('$_', '2026-01-05', '$legacy'), false)}),
		't', "pg_cron and backfill take $_") for @taken;
	my @refused = ('', '*', '* * * *', '60 * * * *', '-1 * * * *', '* 24 * * *', '* * 0 * *', '* * 32 * *', '* * * 0 *', '* * * 13 *', '* * * * 8', '*/0 * * * *', '1/2 * * * *',
		'1- * * * *', '1-2-3 x * * *', 'jan * * * *', '* * * january *', '* * * * monday', '5-64/30 * * * *', 'x * * * *', '@never');
	is($node->safe_psql('postgres', qq{SELECT pg_cron_next('$_', '2026-01-05', '$legacy')}), '', "pg_cron refuses '$_'") for @refused;
	isnt($node->psql('postgres', qq{SELECT backfill.cron_next('$_', 'UTC', '2026-01-05')}), 0, "backfill refuses '$_'") for @refused;
}

$node->stop;
check_log($node);
done_testing();

# docs/cron.md does what it says: its settings start a server, its statements run in order,
# and print what the guide shows.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $guide = slurp_file("$FindBin::RealBin/../../docs/cron.md");
my @blocks;
push @blocks, { kind => $1, text => $2 } while $guide =~ /^```(\w*)\n(.*?)^```$/msg;
my @settings = map { $_->{text} } grep { $_->{kind} eq 'ini' } @blocks;
is(scalar @settings, 1, 'the guide has settings');

my $node = new_server('guide', conf => "$settings[0]timezone = 'UTC'\n");
$node->start;
create_extension($node);

sub trimmed { my ($text) = @_; $text =~ s/[ \t]+$//mg; $text =~ s/\s+\z//; return $text; }

my ($statements, $outputs) = (0, 0);
for my $n (0 .. $#blocks)
{
	next if $blocks[$n]{kind} ne 'sql';
	my $next = $n < $#blocks ? $blocks[ $n + 1 ] : { kind => '' };
	my ($first) = $blocks[$n]{text} =~ /^(.{1,60})/;
	my ($out, $err);
	my $ok = IPC::Run::run(
		[ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-P', 'footer=off', '-d', $node->connstr('postgres'), '-f', '-' ],
		'<', \$blocks[$n]{text}, '>', \$out, '2>', \$err);
	ok($ok, "runs: $first") or diag($err);
	$statements++;
	next if $next->{kind} ne 'text';
	$out =~ s/^\n+//mg; # psql leaves a line between two results
	is(trimmed($out), trimmed($next->{text}), "prints what is shown: $first");
	$outputs++;
}
cmp_ok($statements, '>=', 10, 'the guide has examples');
cmp_ok($outputs, '>=', 4, 'the guide has examples with results');
is(scalar(grep { !/^(?:ini|sql|text|json)$/ } map { $_->{kind} } @blocks), 0, 'the guide has no other kind of example');

# The payload that is shown is the one that comes.
my ($shown) = map { $_->{text} } grep { $_->{kind} eq 'json' } @blocks;
is( $node->safe_psql('postgres', qq{BEGIN;
	UPDATE backfill.cron_schedule SET known_since = '2026-01-05 03:29', checked_until = '2026-01-05 03:29' WHERE name = 'daily report';
	DO \$\$ BEGIN PERFORM backfill._cron_tick('2026-01-05 03:30:01'); END \$\$;
	SELECT payload = '$shown'::jsonb FROM backfill.jobs WHERE task_identifier = 'make_report'; ROLLBACK}),
	't', 'the payload of the guide\'s schedule is as shown');

$node->stop;
check_log($node);
done_testing();

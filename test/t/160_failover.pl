# A primary with a synchronous standby is killed under load, the standby is promoted, and clients go on
# with that one: whatever was acknowledged ran once, or was completed once. The old primary comes back as
# the new one's standby and runs nothing, until it is its turn again.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use Failover;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = primary_for_load('anna');
my $standby = standby_of($primary, 'berta');
my $clients = both_servers($primary, $standby);
my $ledger = PostgreSQL::Test::Utils::tempdir();

sub stands_by_synchronously
{
	my ($node, $other, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for my $each ($node, $other) # also for the time when the other one is the primary
	{
		$each->safe_psql('postgres', q{ALTER SYSTEM SET synchronous_standby_names = '*'});
		$each->reload;
	}
	wait_until($node, 'postgres', q{SELECT string_agg(state || ' ' || sync_state, ',') FROM pg_stat_replication}, "$name: " . $other->name . ' is a synchronous standby', 'streaming sync');
	is($other->safe_psql('postgres', q{SELECT pg_is_in_recovery(), (SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^backfill')}),
		't|0', "$name: which has no workers");
	return;
}

# Enqueues, runs and completions go on.
sub work_goes_on
{
	my ($node, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($ran, $completed) = split /\|/, $node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM effect), (SELECT count(*) FROM completion)');
	wait_until($node, 'postgres', "SELECT (SELECT count(*) > $ran + 200 FROM effect) AND (SELECT count(*) > $completed + 50 FROM completion)", $name);
	return;
}

stands_by_synchronously($primary, $standby, 'at first');
my @clients = ((map { start_client('producer', "producer$_", $clients, $ledger) } 1 .. 4),
	(map { start_client('consumer', "consumer$_", $clients, $ledger) } 1 .. 2));

for my $round (1 .. 3)
{
	my $name = "round $round";
	work_goes_on($primary, "$name: " . $primary->name . ' is at work');
	kill_machine($primary, postmaster_only => $round == 2);
	$standby->promote;
	wait_until($standby, 'postgres', 'SELECT NOT pg_is_in_recovery()', "$name: " . $standby->name . ' is promoted');
	if ($round % 2)
	{
		# A primary that is alone acknowledges nothing, as it was told.
		wait_until($standby, 'postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type = 'client backend'}, "$name: producers wait for a standby");
	}
	else
	{
		# Or it goes on alone, until there is one.
		$standby->safe_psql('postgres', q{ALTER SYSTEM SET synchronous_standby_names = ''});
		$standby->reload;
		work_goes_on($standby, "$name: " . $standby->name . ' is at work alone');
	}
	is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'backfill dispatcher' AND datname = 'postgres'}),
		'1', "$name: its workers have come by themselves") if $round % 2 == 0;
	come_back_as_standby($primary, $standby);
	stands_by_synchronously($standby, $primary, $name);
	($primary, $standby) = ($standby, $primary);
}
work_goes_on($primary, 'after the last round');
stop_clients(@clients);
wait_until($primary, 'postgres', q{SELECT NOT EXISTS (SELECT FROM backfill.job WHERE task_identifier = 'work')}, 'all SQL jobs have ended');
my $last = start_client('consumer', 'the_last', $clients, $ledger); # what other consumers have claimed and left
wait_until($primary, 'postgres', 'SELECT NOT EXISTS (SELECT FROM backfill.job)', 'all jobs have ended');
stop_clients($last);
ledger_balances($clients, $ledger, 'three failovers to a synchronous standby');

$primary->wait_for_catchup($standby);
is($standby->safe_psql('postgres', 'SELECT (SELECT count(*) FROM effect), (SELECT count(*) FROM completion)'),
	$primary->safe_psql('postgres', 'SELECT (SELECT count(*) FROM effect), (SELECT count(*) FROM completion)'), 'the standby has the same');
is($primary->safe_psql('postgres', 'SELECT count(DISTINCT server) FROM effect'), '2', 'jobs ran on either server, while it was the primary');

$standby->stop;
$primary->stop;
check_log($_) for $primary, $standby;
done_testing();

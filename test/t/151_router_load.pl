# Three nodes behind a router, under load: clients enqueue jobs with and without keys and in serial queues, a consumer claims
# through the router, slots are moved all the time, nodes are killed (kill -9) and started again, and one fails over to its
# synchronous standby. In the end every job whose enqueue was acknowledged has run exactly once, and one that was refused has not.
#
# BACKFILL_ROUTER_JOBS=200000 says how many jobs; on a fast machine there are more, until enough has been killed.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use Failover;
use Router;
use PostgreSQL::Test::Utils;
use Test::More;

my $jobs = $ENV{BACKFILL_ROUTER_JOBS} // 16000;
my $clients = 8;
my @nodes = map { preloaded($_, init => { allows_streaming => 1 }, conf => "backfill.max_executors = 2\n") } qw(a b c);
create_extension($_) foreach @nodes;
my $router = new_router(@nodes);
sub ask { my ($sql) = @_; return $router->safe_psql('postgres', $sql); }

on_all(q{
	CREATE TABLE effect (token bigint, at timestamptz DEFAULT clock_timestamp());
	CREATE FUNCTION work(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effect (token) VALUES ((payload ->> 'token')::bigint);
		IF random() < 0.02 THEN
			RAISE EXCEPTION 'a job fails now and then';
		END IF;
	END $$}, @nodes);
ask(q{
	SELECT backfill.set_retry_policy('quick', 1000, '1 ms', '20 ms', 2, 0.5);
	SELECT backfill.register_task('work', 'work(jsonb)', retry_policy => 'quick');
	SELECT backfill.register_task('ext', max_attempts => 1000, retry_policy => 'quick');

	CREATE TABLE acknowledged (token bigint, id bigint);
	CREATE TABLE refused (token bigint, state text, message text);
	CREATE TABLE completed (token bigint, state text);
	CREATE TABLE tried (client int, jobs int);
	CREATE TABLE enough ();

	-- The client: each enqueue is a transaction of its own, as is the note of what came of it.
	CREATE PROCEDURE produce(client int, jobs int) LANGUAGE plpgsql AS $$
	DECLARE
		token bigint;
		id bigint;
		i int := 0;
	BEGIN
		LOOP
			EXIT WHEN i >= jobs AND EXISTS (SELECT FROM enough);
			i := i + 1;
			token := client * 1000000 + i;
			BEGIN
				id := CASE i % 5
					WHEN 0 THEN backfill.enqueue_serial('work', jsonb_build_object('token', token), 'serial ' || i % 30)
					WHEN 1 THEN backfill.enqueue('work', jsonb_build_object('token', token))
					WHEN 2 THEN backfill.enqueue('ext', jsonb_build_object('token', token), job_key => 'key ' || token)
					ELSE backfill.enqueue('work', jsonb_build_object('token', token), job_key => 'key ' || token) END;
				INSERT INTO acknowledged VALUES (token, id);
			EXCEPTION WHEN OTHERS THEN
				INSERT INTO refused VALUES (token, SQLSTATE, SQLERRM);
			END;
			COMMIT;
		END LOOP;
		INSERT INTO tried VALUES (client, i);
	END $$;

	-- The consumer: what it does not know to be completed, it does not note.
	CREATE PROCEDURE consume() LANGUAGE plpgsql AS $$
	DECLARE
		claim record;
	BEGIN
		LOOP
			BEGIN
				SELECT c.claim_token, array_agg(c.id) AS ids INTO claim FROM backfill.claim_jobs('consumer', 20, '{ext}', lease => '3 s') c GROUP BY 1;
				INSERT INTO completed SELECT d, 'known' FROM backfill.complete_jobs(claim.ids, claim.claim_token) d WHERE claim.ids IS NOT NULL;
			EXCEPTION WHEN OTHERS THEN
				INSERT INTO completed SELECT i, SQLSTATE FROM unnest(claim.ids) i;
			END;
			COMMIT;
			EXIT WHEN claim.ids IS NULL AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE query ~ '^CALL produce');
			PERFORM pg_sleep(0.01) WHERE claim.ids IS NULL;
		END LOOP;
	END $$});

# The first node has a standby, which every commit waits for.
my $primary = $nodes[0];
my $standby = standby_of($primary, 'a2');
$primary->safe_psql('postgres', q{ALTER SYSTEM SET synchronous_standby_names = '*'; SELECT pg_reload_conf()});
wait_until($primary, 'postgres', q{SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'}, 'the standby is synchronous');
my ($host, $ports) = ($primary->host, $primary->port . ',' . $standby->port);
ask("SELECT backfill.add_node('a', 'host=$host,$host port=$ports dbname=postgres target_session_attrs=read-write')");

my @producers = map { start_calls($router, "CALL produce($_, " . int($jobs / $clients) . ')') } 1 .. $clients;
my $consumer = start_calls($router, 'CALL consume()');

my ($moves, $kills, $failovers, $failed_moves) = (0, 0, 0, 0);
wait_until($router, 'postgres', q{SELECT count(*) > 0 FROM acknowledged}, 'the clients are at work');
my $deadline = time + 4 * $PostgreSQL::Test::Utils::timeout_default;
while (ask(q{SELECT count(*) FROM pg_stat_activity WHERE query ~ 'CALL produce' AND pid <> pg_backend_pid()}) > 0)
{
	die 'the clients do not come to their end' if time > $deadline;
	my $to = (qw(a b c))[ int rand 3 ];
	my $slots = join ',', grep { rand() < 0.2 } 0 .. 255;
	my $mover = start_calls($router, "CALL backfill.move_slots('{$slots}', '$to', '20 s')");
	if (!$failovers && ask('SELECT count(*) FROM acknowledged') > $jobs / 2)
	{
		kill_node($primary);
		$standby->promote;
		$nodes[0] = $standby;
		$failovers++;
	}
	elsif ($moves % 4 == 1)
	{
		my $victim = $nodes[ int rand 3 ];
		kill_node($victim);
		$victim->start;
		$kills++;
	}
	my ($code, $out, $err) = finish_psql($mover);
	$failed_moves++ if $code != 0;
	$moves++;
	ask('INSERT INTO enough DEFAULT VALUES') if $failovers && $kills > 0;
	# What a kill has interrupted is finished.
	($code, $out, $err) = $router->psql('postgres', 'SET client_min_messages = error; CALL backfill.rebalance()');
}
foreach my $producer (@producers)
{
	my ($code, $out, $err) = finish_psql($producer);
	is($err, '', 'a client comes to its end');
}
try_until('moves are finished', sub { my ($code, $out, $err) = $router->psql('postgres', "SET client_min_messages = error; CALL backfill.rebalance(); SELECT count(*) FROM backfill.slot WHERE moving_to IS NOT NULL"); return ($out eq '0', "$out$err") });
wait_until($_, 'postgres', q{SELECT count(*) = 0 FROM backfill.job WHERE task_identifier = 'work'}, 'all jobs of node ' . $_->name . ' have ended') foreach @nodes;
is((finish_psql($consumer))[2], '', 'the consumer comes to its end');
ask(q{CALL consume()});
wait_until($router, 'postgres', q{CALL consume(); SELECT count(*) = 0 FROM backfill.jobs}, 'all jobs have ended');

# The ledger.
ask('CREATE TABLE effect (token bigint, node text)');
foreach my $node (@nodes)
{
	my $tokens = $node->safe_psql('postgres', 'SELECT token FROM effect');
	ask("COPY effect (token) FROM stdin;\n$tokens\n\\.\n") if $tokens ne '';
}
my %ledger = map { split /\|/ } split /\n/, ask(q{
	SELECT 'acknowledged', count(*) FROM acknowledged
	UNION ALL SELECT 'run by nodes', count(*) FROM effect
	UNION ALL SELECT 'completed by the consumer', count(*) FROM completed WHERE state = 'known'
	UNION ALL SELECT 'completed, not known', count(*) FROM completed WHERE state <> 'known'
	UNION ALL SELECT 'refused', count(*) FROM refused WHERE state <> '08007'
	UNION ALL SELECT 'not known', count(*) FROM refused WHERE state = '08007'
	UNION ALL SELECT 'acknowledged and not run', count(*) FROM acknowledged a WHERE token % 5 <> 2 AND NOT EXISTS (SELECT FROM effect e WHERE e.token = a.token)
	UNION ALL SELECT 'run twice', count(*) - count(DISTINCT token) FROM effect
	UNION ALL SELECT 'refused and run', count(*) FROM refused r WHERE state <> '08007' AND EXISTS (SELECT FROM effect e WHERE e.token = r.token)
	UNION ALL SELECT 'acknowledged and not completed', count(*) FROM acknowledged a WHERE token % 5 = 2 AND NOT EXISTS (SELECT FROM completed c WHERE c.token = a.id)
	UNION ALL SELECT 'completed twice', count(*) - count(DISTINCT token) FROM completed WHERE state = 'known'});
$ledger{moves} = $moves;
$ledger{'moves that a kill has interrupted'} = $failed_moves;
$ledger{kills} = $kills;
$ledger{failovers} = $failovers;
diag 'ledger: ' . join ', ', map { "$_ $ledger{$_}" } 'acknowledged', 'run by nodes', 'completed by the consumer', 'completed, not known', 'refused', 'not known',
  'moves', 'moves that a kill has interrupted', 'kills', 'failovers', 'acknowledged and not run', 'run twice', 'refused and run', 'acknowledged and not completed', 'completed twice';
is($ledger{$_}, 0, "none was $_") foreach 'acknowledged and not run', 'run twice', 'refused and run', 'acknowledged and not completed', 'completed twice';
cmp_ok($ledger{$_}, '>', 0, "there were $_") foreach 'moves', 'kills', 'failovers', 'acknowledged', 'completed by the consumer';
is($ledger{acknowledged} + $ledger{refused} + $ledger{'not known'}, ask('SELECT sum(jobs) FROM tried'), 'each job is in the ledger');
is(ask(q{SELECT string_agg(DISTINCT state, ' ') FROM refused WHERE state NOT IN ('08001', '08007', '40001')}), '', 'errors are those of the guide');
is(ask(q{SELECT string_agg(status, ' ') FROM backfill.check_nodes()}), 'ok ok ok', 'no node has gone back in time');
check_log($_, crashes => 1) foreach @nodes, $primary;
done_testing();

# pg_cancel_backend() ends jobs and statements, never a worker; settings take effect on reload.
# poll_interval is one hour: what happens, happens because a worker was told.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('signals', conf => "backfill.poll_interval = '1h'\nbackfill.max_executors = 1\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE ran (name text, pid int DEFAULT pg_backend_pid());
	CREATE SEQUENCE tries;
	CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO ran (name) VALUES (payload->>'name') $$;
	-- Sleeps for an hour, but only in its first attempt.
	CREATE FUNCTION dawdle(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO ran (name) VALUES (payload->>'name');
		IF nextval('tries') = 1 THEN PERFORM pg_sleep(3600); END IF;
	END $$;
	-- Waits until no session holds the gate.
	CREATE FUNCTION pass_gate(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(1);
		INSERT INTO ran (name) VALUES (payload->>'name');
	END $$;
	SELECT backfill.set_retry_policy('quick', 1000, '1 ms', '20 ms', 2, 0.5);
	SELECT backfill.register_task('note', 'note(jsonb)');
	SELECT backfill.register_task('dawdle', 'dawdle(jsonb)', retry_policy => 'quick');
	SELECT backfill.register_task('pass_gate', 'pass_gate(jsonb)');
	SELECT backfill.enqueue('note', '{"name": "first"}');
});

sub set_conf
{
	my ($name, $value) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET $name = '$value'");
	$node->reload;
	return;
}

sub ran
{
	my ($name, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, 'postgres',
		"SELECT count(*) FROM ran WHERE name = '$name'", $what, 1);
}

# --- Idle workers.

ran('first', 'a job runs');
wait_until($node, 'postgres', q{SELECT state FROM backfill.workers WHERE kind = 'executor'},
	'its executor becomes idle', 'idle');
for my $kind ('launcher', 'dispatcher', 'executor')
{
	my ($pid) = worker_pids($node, $kind);
	for my $i (1 .. 10)
	{
		my $position = log_position($node);
		$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
		$node->wait_for_log(qr/\[$pid\] backfill $kind 57014 ERROR/, $position);
	}
	is(join(',', worker_pids($node, $kind)), $pid, "the idle $kind survives ten cancels");
}
my ($executor) = worker_pids($node, 'executor');
$node->safe_psql('postgres', q{SELECT backfill.enqueue('note', '{"name": "after cancels"}')});
ran('after cancels', 'after the cancels a job starts as before');
is($node->safe_psql('postgres', "SELECT pid FROM ran WHERE name = 'after cancels'"),
	$executor, 'the job after the cancels runs in the same executor');
$node->safe_psql('postgres', 'CREATE DATABASE other');
create_extension($node, 'other');
wait_for_workers($node, 'dispatcher', 'other', 1, 'the launcher does its work, too');

# --- A running job, in a batch with others.

my $position = log_position($node);
$node->safe_psql('postgres', q{SELECT backfill.enqueue_jobs(
	'[{"task_identifier": "note", "payload": {"name": "before"}},
	  {"task_identifier": "dawdle", "payload": {"name": "cancelled"}},
	  {"task_identifier": "note", "payload": {"name": "behind"}}]')});
wait_until($node, 'postgres', q{SELECT w.task_identifier, a.wait_event FROM backfill.workers w JOIN pg_stat_activity a USING (pid) WHERE w.kind = 'executor'},
	'a job hangs', 'dawdle|PgSleep');
is($node->safe_psql('postgres', "SELECT pg_cancel_backend($executor)"), 't', 'the executor is cancelled');
ran('before', 'the job before it has run once');
ran('behind', 'the job behind the cancelled one has run once');
ran('cancelled', 'the cancelled job runs after a retry');
is( $node->safe_psql('postgres', "SELECT string_agg(DISTINCT pid::text, ',') FROM ran WHERE name IN ('before', 'behind', 'cancelled')"),
	$executor, 'the cancelled job runs in the same executor');
is(scalar(log_lines($node, qr/57014 LOG:  job \d+ failed and will be retried: canceling statement/, $position)),
	1, 'the log says so');
is($node->safe_psql('postgres', 'SELECT total_jobs FROM backfill.dlq_stats()'), 0, 'the cancelled job is no dead letter');

# --- Cancels at any moment.

create_workload($node, 'other');
set_conf('backfill.max_executors', 4);
$position = log_position($node);
my $closed = close_gate($node, 'other');
produce($node, 'other', 2, '{"gate": true}'); # two jobs that hang until they are hit, and then again
my $bench = start_workload($node, 'other', 3);
wait_until($node, 'other', 'SELECT count(*) > 50 FROM effect', 'the load has begun');
wait_until($node, 'other', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'backfill executor' AND wait_event = 'advisory'}, 'the job that hangs runs');
my $cancels = $node->safe_psql(
	'other', q{
	DO $$
	BEGIN
		FOR i IN 1 .. 300 LOOP
			PERFORM pg_cancel_backend(pid) FROM backfill.workers;
			PERFORM pg_sleep(0.002);
		END LOOP;
	END $$;
	SELECT count(*) > 0 FROM backfill.workers WHERE kind = 'executor'});
is($cancels, 't', 'cancels rain on busy workers');
open_gate($closed);
is(finish_pgbench($bench), 0, 'clients notice nothing');
is_exactly_once($node, 'other', 'cancels under load');
cmp_ok(scalar(log_lines($node, qr/ 57014 LOG:  job \d+ failed and will be retried/, $position)),
	'>', 0, 'jobs were hit');
is(scalar(log_lines($node, qr/ 57P01 /)), 0, 'no worker has ended');

# --- Settings.

set_conf('backfill.max_executors', 0);
wait_for_workers($node, 'executor', undef, 0, 'max_executors = 0 ends all executors');
$node->safe_psql('postgres', q{SELECT backfill.enqueue('note', '{"name": "held"}')});
my $now = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
$node->reload;
wait_until($node, 'postgres', qq{SELECT state = 'idle' AND state_change > '$now' FROM pg_stat_activity
	WHERE backend_type = 'backfill dispatcher' AND datname = 'postgres'}, 'the dispatcher looks for work');
is($node->safe_psql('postgres', q{SELECT state, (SELECT count(*) FROM ran WHERE name = 'held') FROM backfill.jobs}),
	'ready|0', 'jobs are held');
set_conf('backfill.max_executors', 4);
ran('held', 'raising it lets them run');

my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', q{SELECT backfill.enqueue_fast('pass_gate', '{"name": "through"}') FROM generate_series(1, 6)});
wait_until($node, 'postgres', q{SELECT count(*) FROM backfill.jobs WHERE state = 'running'},
	'as many jobs run as there may be executors', 4);
set_conf('backfill.max_executors', 1);
wait_until($node, 'postgres', 'SHOW backfill.max_executors', 'max_executors is lowered', 1);
$gate->query_safe('SELECT pg_advisory_unlock(1)');
wait_until($node, 'postgres', q{SELECT count(*) FROM ran WHERE name = 'through'}, 'the running jobs end, the others run', 6);
wait_for_workers($node, 'executor', 'postgres', 1, 'one executor is left');
$gate->quit;

set_conf('backfill.databases', 'other, "no such database"');
wait_for_workers($node, 'dispatcher', 'postgres', 0, 'a database that is not listed loses its workers');
wait_for_workers($node, 'executor', 'postgres', 0, 'databases that are not listed lose all their workers');
$node->safe_psql('postgres', q{SELECT backfill.enqueue('note', '{"name": "unlisted"}')});
produce($node, 'other', 7);
is_exactly_once($node, 'other', 'the listed database');
is($node->safe_psql('postgres', 'SELECT state FROM backfill.jobs'), 'ready', 'the job of the other one waits');
set_conf('backfill.databases', '*');
ran('unlisted', 'the job of a database runs when it is listed again');

$node->stop;
check_log($node);
done_testing();

# A limit that is lowered, or set, while jobs run holds for all that starts afterwards: nothing does
# until fewer run. And whatever frees a full queue, its next job starts.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('lowered', conf => "backfill.max_executors = 10\nbackfill.bulk_queue_concurrency = 5\nbackfill.poll_interval = '1h'\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE ran (n int);
	-- Runs as long as the test holds the lock of its number.
	CREATE FUNCTION wait(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared((payload->>'n')::int);
		INSERT INTO ran VALUES ((payload->>'n')::int);
	END $$;
	CREATE PROCEDURE wait_too(payload jsonb) LANGUAGE plpgsql AS $$
	BEGIN
		COMMIT;
		PERFORM wait(payload);
	END $$;
	CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO ran VALUES (0)';
	SELECT backfill.register_task('wait', 'wait(jsonb)'), backfill.register_task('wait_too', 'wait_too(jsonb)'),
	       backfill.register_task('note', 'note(jsonb)');
	CREATE FUNCTION add(queue text, VARIADIC numbers int[]) RETURNS bigint LANGUAGE sql AS $$
		SELECT count(backfill.enqueue('wait', jsonb_build_object('n', n), queue, priority => -10)) FROM unnest(numbers) n $$;
	CREATE VIEW running AS SELECT queue_name, string_agg(payload->>'n', ' ' ORDER BY (payload->>'n')::int) AS numbers
	  FROM backfill.jobs WHERE state = 'running' GROUP BY queue_name;
});

my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(n) FROM generate_series(1, 100) n');

sub runs
{
	my ($queue, $numbers, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, 'postgres', "SELECT numbers = '$numbers' FROM running WHERE queue_name = '$queue'", $name);
}

# Lets jobs end, sees that executors have looked for more since, and says what runs then: a job that
# comes behind all others has run.
sub runs_after_end_of
{
	my ($queue, $numbers, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$gate->query_safe("SELECT pg_advisory_unlock($_)") for split / /, $numbers;
	my $count = split / /, $numbers;
	my $list = join ',', split / /, $numbers;
	$node->poll_query_until('postgres', "SELECT count(*) = $count FROM ran WHERE n IN ($list)") or die "$numbers did not end";
	$node->safe_psql('postgres', q{TRUNCATE ran; SELECT backfill.enqueue('note', queue_name => 'behind', priority => 20)});
	$node->poll_query_until('postgres', 'SELECT count(*) = 1 FROM ran WHERE n = 0') or die 'no executor looked';
	return is($node->safe_psql('postgres', "SELECT coalesce(string_agg(numbers, ''), '') FROM running WHERE queue_name = '$queue'"),
		$expected, $name);
}

# --- Lowered.

$node->safe_psql('postgres', q{SELECT backfill.set_queue('four', 4); SELECT add('four', 1, 2, 3, 4)});
runs('four', '1 2 3 4', 'four jobs run in a queue for four');
$node->safe_psql('postgres', q{SELECT backfill.set_queue('four', 1); SELECT add('four', 5, 6)});
runs_after_end_of('four', '1', '2 3 4', 'when it is for one only, none starts while three run');
runs_after_end_of('four', '4', '2 3', 'a queue made serial: none starts while two run');
like($node->safe_psql('postgres', q{SELECT backfill.why_not_running(id) FROM backfill.jobs WHERE payload->>'n' = '5'}),
	qr/^queue_full: queue "four" runs 1 job at a time: executor \d+ with job \d+, executor \d+ with job \d+; 0 ready jobs/, 'why_not_running() shows the jobs beyond the limit');
runs_after_end_of('four', '3', '2', 'a queue made serial: none starts while one runs');
$gate->query_safe('SELECT pg_advisory_unlock(2)');
runs('four', '5', 'a queue made serial: the next job starts when the last has ended');
$node->safe_psql('postgres', q{SELECT backfill.set_queue('four', 3); SELECT add('four', 7, 8, 9)});
$node->safe_psql('postgres', q{SELECT backfill.enqueue('note')});
runs('four', '5 6 7', 'a limit that is raised holds as ever');
$gate->query_safe('SELECT pg_advisory_unlock(n) FROM generate_series(5, 9) n');
wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM backfill.job}, 'all jobs of the queue for four end');

# --- Jobs of a queue that had no limit: functions and procedures.

$node->safe_psql('postgres', q{SELECT add('free', 11, 12), backfill.enqueue('wait_too', '{"n": 13}', 'free', priority => -10)});
runs('free', '11 12 13', 'three jobs run in a queue without a limit');
$node->safe_psql('postgres', q{SELECT backfill.enqueue_serial('wait', '{"n": 14}', 'free'); UPDATE backfill.job SET priority = -10 WHERE payload = '{"n": 14}'});
runs_after_end_of('free', '11', '12 13', 'when it is made serial, none starts while two run');
runs_after_end_of('free', '12', '13', 'a free queue made serial: none starts while a procedure runs');
$gate->query_safe('SELECT pg_advisory_unlock(13)');
runs('free', '14', 'a free queue made serial: the next job starts when the last has ended');
$gate->query_safe('SELECT pg_advisory_unlock(14)');
wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM backfill.job}, 'all jobs of the free queue end');

# --- The limit of bulk is a setting.

$node->safe_psql('postgres', q{SELECT add('bulk', 21, 22, 23)});
runs('bulk', '21 22 23', 'three jobs run in queue bulk');
$node->append_conf('postgresql.conf', 'backfill.bulk_queue_concurrency = 1');
$node->reload;
wait_until($node, 'postgres', q{SELECT current_setting('backfill.bulk_queue_concurrency') = '1'}, 'the setting of queue bulk is lowered');
$node->safe_psql('postgres', q{SELECT add('bulk', 24)});
runs_after_end_of('bulk', '21', '22 23', 'queue bulk: none starts while two run');
runs_after_end_of('bulk', '23', '22', 'queue bulk: none starts while one runs');
$gate->query_safe('SELECT pg_advisory_unlock(22)');
runs('bulk', '24', 'queue bulk: the next job starts when the last has ended');
$gate->query_safe('SELECT pg_advisory_unlock(24)');
wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM backfill.job}, 'all jobs of queue bulk end');

# --- A full queue is freed by another role's executor, while the only one of this role is busy for
# long. No sweep comes to help.

$node->safe_psql(
	'postgres', q{
	CREATE ROLE other LOGIN;
	GRANT ALL ON SCHEMA public TO other;
	GRANT ALL ON ran TO other;
	SELECT backfill.register_task('other_wait', 'wait(jsonb)', run_as => 'other');
	SELECT backfill.set_queue('shared', 1);
	SELECT add('own', 31);
	SELECT backfill.enqueue('other_wait', '{"n": 32}', 'shared', priority => -10);
});
runs('own', '31', 'an executor of one role is busy');
runs('shared', '32', 'an executor of another role runs a job of a serial queue');
# Idle executors of the first role have heard of the queue that is full; they must be gone.
$node->append_conf('postgresql.conf', "backfill.executor_idle_timeout = '1s'");
$node->reload;
wait_for_workers($node, 'executor', 'postgres', 2, 'no other executor is there');
# The other role's executor must stay when it has nothing to do: its end would wake the dispatcher as well.
$node->append_conf('postgresql.conf', "backfill.executor_idle_timeout = '1h'");
$node->reload;
$node->safe_psql('postgres', q{SELECT add('shared', 33)});
wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'backfill dispatcher' AND state = 'active'}, 'the dispatcher has looked');
$gate->query_safe('SELECT pg_advisory_unlock(32)');
runs('shared', '33', 'the job of the first role starts when the queue is free');
$gate->query_safe('SELECT pg_advisory_unlock_all()');
wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM backfill.job}, 'all jobs end');

$gate->quit;
$node->stop;
check_log($node);
done_testing();

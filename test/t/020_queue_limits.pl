# Limits of queues, across sixteen executors and two sessions that run jobs themselves:
# concurrency (also after a crash), rate, depth; and that a queue which may start nothing
# now delays no other. With poll_interval at one hour nothing happens by polling.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('limits',
	conf => "backfill.poll_interval = '1h'\nbackfill.max_executors = 16\nmax_worker_processes = 24\n"
	  . "restart_after_crash = on\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE ran (token int, began timestamptz, ended timestamptz, pid int DEFAULT pg_backend_pid());
	CREATE FUNCTION record(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		began timestamptz := clock_timestamp();
	BEGIN
		PERFORM pg_sleep((payload->>'ms')::float8 / 1000);
		INSERT INTO ran VALUES ((payload->>'n')::int, began, clock_timestamp());
	END $$;
	-- Waits as long as the test holds the lock. It does not begin with its transaction, which may
	-- have run other jobs before.
	CREATE FUNCTION wait(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		began timestamptz := clock_timestamp();
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(1);
		INSERT INTO ran VALUES ((payload->>'n')::int, began, clock_timestamp());
	END $$;
	CREATE FUNCTION add(task text, queue text, jobs int, ms int DEFAULT 0, priority int DEFAULT 0) RETURNS bigint LANGUAGE sql AS $$
		SELECT count(*) FROM backfill.enqueue_many(task,
			ARRAY(SELECT jsonb_build_object('n', n, 'ms', ms) FROM generate_series(1, jobs) n), queue, priority)
	$$;
	-- How many jobs were between their begin and their end at the same time, at most.
	CREATE FUNCTION most_at_once() RETURNS bigint LANGUAGE sql AS $$
		SELECT max(n) FROM (
			SELECT sum(change) OVER (ORDER BY at, change) AS n
			  FROM ran, LATERAL (VALUES (began, 1), (ended, -1)) event (at, change)) e
	$$;
	-- How many began in any window of this length, at most.
	CREATE FUNCTION most_started_within(length interval) RETURNS bigint LANGUAGE sql AS $$
		SELECT max(n) FROM (
			SELECT count(*) OVER (ORDER BY began RANGE BETWEEN CURRENT ROW AND most_started_within.length FOLLOWING) AS n FROM ran) w
	$$;
	SELECT backfill.register_task('record', 'record(jsonb)'), backfill.register_task('wait', 'wait(jsonb)');
	SELECT backfill.set_queue('three', 3), backfill.set_queue('one', 1), backfill.pause_queue('paused'),
	       backfill.set_queue('rated', rate_limit => 25, rate_period => '2 s');
});
my $no_jobs = 'SELECT count(*) = 0 FROM backfill.job';

# --- Concurrency.

# Without a limit the executors do work side by side, or the test below would prove nothing.
my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', q{SELECT add('wait', 'free', 16)});
wait_until($node, 'postgres', q{SELECT count(*) FROM backfill.jobs WHERE state = 'running'}, 'without a limit all jobs run at once', 16);
$gate->query_safe('SELECT pg_advisory_unlock(1)');
wait_until($node, 'postgres', $no_jobs, 'the jobs of the limited queue end');
cmp_ok($node->safe_psql('postgres', 'SELECT most_at_once()'), '>', 3, 'the handlers have seen that more than three jobs ran at once');
$node->safe_psql('postgres', 'TRUNCATE ran');

# Three are at work, whatever the machine does; the others follow when all may go on.
$gate->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', q{SELECT add('wait', 'three', 3)});
wait_until($node, 'postgres', q{SELECT count(*) FROM backfill.jobs WHERE state = 'running'}, 'three jobs of a queue with concurrency 3 run', 3);
my @sessions = map { start_psql($node, 'postgres',
		'SELECT pg_advisory_lock_shared(1), pg_advisory_unlock_shared(1);' . 'CALL backfill.process_available_jobs();' x 20) } (1, 2);
$node->safe_psql('postgres', q{SELECT add('record', 'three', 5000, 1)});
$gate->query_safe('SELECT pg_advisory_unlock(1)');
wait_until($node, 'postgres', $no_jobs, '5,000 jobs of other kinds end');
is((finish_psql($_))[0], 0, 'a session that runs jobs meanwhile ends well') for @sessions;
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT token) FROM ran'), '5003|5000', 'each ran once');
is($node->safe_psql('postgres', 'SELECT most_at_once()'), 3, 'three at once, never more');
cmp_ok($node->safe_psql('postgres', 'SELECT count(DISTINCT pid) FROM ran'), '>=', 3, 'the jobs of the limited queue ran in several processes');
$node->safe_psql('postgres', 'TRUNCATE ran');

# An executor dies in the middle of a job, and the server restarts: its slot is free again
# and counted once.
$gate->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', q{SELECT add('wait', 'three', 3)});
wait_until($node, 'postgres', q{SELECT count(*) FROM backfill.jobs WHERE state = 'running'}, 'three jobs run', 3);
$node->safe_psql('postgres', q{SELECT add('record', 'three', 1000, 3)});
my $position = log_position($node);
is(kill('KILL', running_executor($node, 'postgres')), 1, 'an executor is killed');
$node->wait_for_log(qr/all server processes terminated; reinitializing/, $position);
eval { $gate->quit };
wait_until($node, 'postgres', $no_jobs, 'after a crash the rest of the jobs end');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT token) FROM ran'), '1003|1000', 'each ran once');
cmp_ok($node->safe_psql('postgres', 'SELECT most_at_once()'), '<=', 3, 'three at once, never more, after a crash');

# Nor is a slot lost: three still run side by side.
$gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', q{SELECT add('wait', 'three', 10)});
wait_until($node, 'postgres', q{SELECT count(*) FROM backfill.jobs WHERE state = 'running'}, 'no slot is lost by it', 3);
$gate->quit;
wait_until($node, 'postgres', $no_jobs, 'after a crash of the server all jobs end');
$node->safe_psql('postgres', 'TRUNCATE ran');

# --- A serial queue keeps its order.

$node->safe_psql('postgres', q{SELECT add('record', 'one', 300, 1)});
wait_until($node, 'postgres', $no_jobs, 'the jobs of a serial queue end');
is($node->safe_psql('postgres', 'SELECT most_at_once()'), 1, 'the jobs of a serial queue run one at a time');
is( $node->safe_psql('postgres',
		'SELECT count(*) FROM (SELECT token < lag(token) OVER (ORDER BY began) AS wrong FROM ran) o WHERE wrong'),
	0, 'the jobs of a serial queue run in the order in which they were enqueued');
$node->safe_psql('postgres', 'TRUNCATE ran');

# --- Rate. The handler's clock runs a little behind the moment that counts, hence a window
# that is shorter than the period.

$node->safe_psql('postgres', q{SELECT add('record', 'rated', 100)});
wait_until($node, 'postgres', $no_jobs, 'the jobs of a rate-limited queue end');
is($node->safe_psql('postgres', 'SELECT count(*) FROM ran'), 100, 'all jobs of the rate-limited queue ran');
cmp_ok($node->safe_psql('postgres', q{SELECT most_started_within('1.5 s')}), '<=', 25, 'no window has more starts than the rate allows');
cmp_ok($node->safe_psql('postgres', q{SELECT extract(epoch FROM max(began) - min(began)) FROM ran}), '>=', 5.5,
	'100 jobs at 25 in 2 s took three periods at least');
$node->safe_psql('postgres', 'TRUNCATE ran');

# After a restart it is unknown what began just before: the rate counts as used up for a period.
$node->safe_psql('postgres', q{SELECT add('record', 'rated', 25)});
wait_until($node, 'postgres', $no_jobs, 'a period full of jobs ends');
$node->restart;
$node->safe_psql('postgres', q{SELECT add('record', 'rated', 25)});
wait_until($node, 'postgres', $no_jobs, 'the jobs of the period after a restart end');
cmp_ok($node->safe_psql('postgres', q{SELECT most_started_within('1.5 s')}), '<=', 25, 'a restart does not reset the rate');
$node->safe_psql('postgres', 'TRUNCATE ran');

# --- Queues that may start nothing now delay no other, though their jobs come first.

$gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', q{SELECT add('wait', 'one', 200, 0, -20)});
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM backfill.jobs WHERE queue_name = 'one' AND state = 'running'}, 'a queue is full');
$node->safe_psql('postgres', q{SELECT add('wait', 'paused', 200, 0, -20)});
$node->safe_psql('postgres', q{SELECT add('record', 'rated', 60, 0, -20)});
$node->safe_psql('postgres', q{TRUNCATE ran; SELECT add('record', 'open', 50, 0, 10)});
wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM backfill.job WHERE queue_name = 'open'}, 'jobs of another queue run meanwhile');
is( $node->safe_psql('postgres',
		q{SELECT queue_name, ready + running FROM backfill.queues WHERE queue_name IN ('one', 'paused') ORDER BY 1}),
	"one|200\npaused|200", 'the full and the paused queue have started nothing more');

$node->safe_psql('postgres', q{SELECT backfill.resume_queue('paused')});
wait_until($node, 'postgres', q{SELECT count(*) > 1 FROM backfill.jobs WHERE state = 'running' AND queue_name = 'paused'}, 'resume_queue() starts the jobs that wait');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
wait_until($node, 'postgres', $no_jobs, 'the gate is open, and all jobs end');

# A job becomes due in a queue that was full, with a ready job before it, when a process last
# looked. Its only executor is busy with the queue until then.
$node->append_conf('postgresql.conf', 'backfill.max_executors = 1');
$node->reload;
wait_for_workers($node, 'executor', 'postgres', '<= 1', 'one executor stays at most');
$gate->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', q{TRUNCATE ran; SELECT add('wait', 'one', 1)});
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM backfill.jobs WHERE queue_name = 'one' AND state = 'running'}, 'a serial queue is full');
$node->safe_psql('postgres', q{SELECT add('wait', 'one', 1)});
$node->safe_psql('postgres', q{SELECT backfill.enqueue('wait', '{"n": 3}', 'one', run_at => clock_timestamp() + interval '2 s')});
$gate->query_safe('SELECT pg_advisory_unlock(1)');
wait_until($node, 'postgres', 'SELECT count(*) = 2 FROM ran', 'the running job and the ready one end');
wait_until($node, 'postgres', 'SELECT count(*) = 3 FROM ran', 'the job that was scheduled runs when it is due');
$node->append_conf('postgresql.conf', 'backfill.max_executors = 16');
$node->reload;

# A queue that is paused while it works finishes what runs and starts nothing else.
$gate->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', q{TRUNCATE ran; SELECT add('wait', 'three', 10)});
wait_until($node, 'postgres', q{SELECT count(*) = 3 FROM backfill.jobs WHERE state = 'running'}, 'three jobs run');
$node->safe_psql('postgres', q{SELECT backfill.pause_queue('three')});
$gate->query_safe('SELECT pg_advisory_unlock(1)');
wait_until($node, 'postgres', 'SELECT count(*) = 3 FROM ran', 'what runs when a queue is paused ends');
$node->safe_psql('postgres', q{SELECT add('record', 'open', 20)});
wait_until($node, 'postgres', q{SELECT count(*) = 23 FROM ran}, 'others run');
is($node->safe_psql('postgres', q{SELECT ready, running FROM backfill.queues WHERE queue_name = 'three'}), '7|0', 'the rest of the paused queue waits');
# Limits that are raised count for jobs that wait already.
$node->safe_psql('postgres', q{SELECT backfill.set_queue('three', 7), backfill.resume_queue('three')});
wait_until($node, 'postgres', $no_jobs, 'the rest of the paused queue runs when the queue is resumed');
$gate->quit;

# --- Depth: producers that enqueue at the same time.

$node->safe_psql(
	'postgres', q{
	SELECT backfill.set_queue('deep', max_depth => 50), backfill.pause_queue('deep');
	CREATE TABLE outcome (sqlstate text);
	CREATE FUNCTION try() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM backfill.enqueue('record', '{"n": 1, "ms": 0}', 'deep');
		INSERT INTO outcome VALUES ('00000');
	EXCEPTION WHEN OTHERS THEN
		INSERT INTO outcome VALUES (sqlstate);
	END $$;
});
is(finish_pgbench(start_pgbench($node, 'postgres', 'SELECT try();', '-c', 16, '-j', 2, '-t', 20)), 0, '16 clients enqueue');
is($node->safe_psql('postgres', 'SELECT sqlstate, count(*) FROM outcome GROUP BY 1 ORDER BY 1'),
	"00000|50\nJB001|270", 'exactly max_depth of them get in, the others are told that the queue is full');
is($node->safe_psql('postgres', q{SELECT ready FROM backfill.queues WHERE queue_name = 'deep'}), 50, 'exactly max_depth jobs wait');
$node->safe_psql('postgres', q{SELECT backfill.resume_queue('deep')});
wait_until($node, 'postgres', $no_jobs, 'the jobs of the full queue run');
$node->safe_psql('postgres', 'SELECT try()');
is($node->safe_psql('postgres', q{SELECT count(*) FROM outcome WHERE sqlstate = '00000'}), 51, 'when jobs have run, there is room in the queue again');

$node->stop;
check_log($node, crashes => 1);
done_testing();

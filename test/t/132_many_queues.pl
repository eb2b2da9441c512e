# A queue per customer: 2,000 serial queues, through random enqueues, retries, pauses, kills and faults in
# what shared memory says. Never two jobs of one queue at once, order within a queue, nothing lost,
# nothing left behind; and the long backlog of a queue that may start nothing delays no other.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('many',
	conf => "backfill.max_executors = 4\nbackfill.poll_interval = '1s'\nbackfill.batch_time = '100ms'\nmax_locks_per_transaction = 256\nrestart_after_crash = on\n"
	  . "log_min_messages = error\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE sent (token bigint PRIMARY KEY, queue text, priority int, batch xid8 DEFAULT pg_current_xact_id());
	CREATE TABLE ran (token bigint, attempt int, at bigint);
	CREATE SEQUENCE tokens; CREATE SEQUENCE moments;

	CREATE TABLE turn (queue text PRIMARY KEY);
	INSERT INTO turn SELECT 'customer ' || n FROM generate_series(0, 1999) n;

	-- A transaction that has run a job of the queue holds the lock on its row to the end.
	CREATE FUNCTION work(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		moment bigint := nextval('moments');
	BEGIN
		IF NOT EXISTS (SELECT FROM turn WHERE turn.queue = payload->>'queue' FOR UPDATE SKIP LOCKED) THEN RAISE LOG 'two jobs of one queue at once'; END IF;
		INSERT INTO ran VALUES ((payload->>'token')::bigint, (SELECT attempt FROM backfill.current_job()), moment);
		PERFORM pg_sleep(0.001) WHERE random() < 0.02;
		IF random() < 0.02 THEN RAISE EXCEPTION 'a job fails now and then'; END IF;
	END $$;
	SELECT backfill.set_retry_policy('quick', 1000, '1 ms', '20 ms', 2, 0.5);
	SELECT backfill.register_task('work', 'work(jsonb)', retry_policy => 'quick');

	CREATE FUNCTION send(queue text) RETURNS bigint LANGUAGE plpgsql AS $$
	DECLARE
		token bigint := nextval('tokens');
		priority int := (ARRAY[0, 0, 0, -5, 5])[1 + floor(random() * 5)];
	BEGIN
		INSERT INTO sent VALUES (token, queue, priority);
		RETURN backfill.enqueue('work', jsonb_build_object('token', token, 'queue', queue), queue_name => queue, priority => priority);
	END $$;
	-- One customer has far more than the others.
	CREATE FUNCTION some_queue() RETURNS text LANGUAGE sql AS
		$$ SELECT 'customer ' || CASE WHEN random() < 0.2 THEN 0 ELSE floor(random() * 2000) END $$;
	CREATE PROCEDURE produce(transactions int) LANGUAGE plpgsql AS $$
	DECLARE
		queue text;
	BEGIN
		FOR i IN 1 .. transactions LOOP
			queue := some_queue();
			PERFORM send(queue), send(some_queue()), send(queue);
			COMMIT;
		END LOOP;
	END $$;
	CREATE PROCEDURE pause_some(times int) LANGUAGE plpgsql AS $$
	DECLARE
		queue text;
	BEGIN
		FOR i IN 1 .. times LOOP
			queue := some_queue();
			PERFORM backfill.pause_queue(queue);
			COMMIT;
			PERFORM pg_sleep(0.003);
			PERFORM backfill.resume_queue(queue);
			COMMIT;
		END LOOP;
	END $$;

	-- What came in one transaction is visible at once: of such jobs in one queue the better one runs
	-- first, unless it has failed before.
	CREATE VIEW overtaken AS
		SELECT a.token, b.token AS by
		  FROM sent a
		  JOIN sent b ON b.queue = a.queue AND b.batch = a.batch AND (b.priority, b.token) > (a.priority, a.token)
		  JOIN ran ra ON ra.token = a.token
		  JOIN ran rb ON rb.token = b.token
		 WHERE ra.at > rb.at AND ra.attempt = 1;

	INSERT INTO backfill.queue (queue_name, concurrency) SELECT 'customer ' || n, 1 FROM generate_series(0, 1999) n;
});

# `overtaken`: the number of jobs that may be.
sub check
{
	my ($name, $overtaken) = @_;
	wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', "$name: all jobs have ended");
	is(scalar(log_lines($node, qr/two jobs of one queue at once/)), 0, "$name: never two jobs of one queue at once");
	if (defined $overtaken)
	{
		my $count = $node->safe_psql('postgres', 'SELECT count(DISTINCT token) FROM overtaken');
		cmp_ok($count, '<=', $overtaken, "$name: the jobs of each queue ran in order")
		  or diag "overtaken: queue, by, its priority, attempt and moment, how many, first and last moment\n" . $node->safe_psql('postgres', q{
			SELECT sb.queue, o.by, sb.priority, rb.attempt, rb.at, count(*), min(ra.at), max(ra.at)
			  FROM overtaken o JOIN sent sb ON sb.token = o.by JOIN ran rb ON rb.token = o.by JOIN ran ra ON ra.token = o.token
			 GROUP BY 1, 2, 3, 4, 5 ORDER BY 5 LIMIT 30});
	}
	is( $node->safe_psql('postgres', q{
		SELECT 'lost', count(*) FROM (SELECT token FROM sent EXCEPT ALL SELECT token FROM ran) l
		UNION ALL
		SELECT 'too many', count(*) FROM (SELECT token FROM ran EXCEPT ALL SELECT token FROM sent) t
		UNION ALL
		SELECT 'dead', total_jobs FROM backfill.dlq_stats()}),
		"lost|0\ntoo many|0\ndead|0", "$name: every job ran exactly once");
	$node->safe_psql('postgres', 'TRUNCATE sent, ran');
	return;
}

my $five_each = q{SELECT count(send(CASE WHEN n % 10 = 0 THEN 'customer 0' ELSE 'customer ' || n % 2000 END)) FROM generate_series(1, 10000) n};

# Many jobs at once, jobs that come meanwhile, queues that pause, executors that are ended.
sub run_load
{
	my ($name, $ends) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql('postgres', $five_each);
	my @sessions = map { start_psql($node, 'postgres', $_) } (('CALL produce(300)') x 3, 'CALL pause_some(150)');
	$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'backfill executor' ORDER BY random() LIMIT 1})
	  for 1 .. $ends;
	for my $session (@sessions)
	{
		my ($code, $out, $err) = finish_psql($session);
		is($code, 0, "$name: a session beside them gets no error") or diag $err;
	}
	return;
}

run_load('under load', 0);
check('under load', 0);
# A job that its executor was running when that ended waits until it is clear whether it is to
# blame; others of its queue may run meanwhile.
run_load('while executors are ended', 10);
check('while executors are ended', 10);
for my $crash (1 .. 2)
{
	$node->safe_psql('postgres', $five_each);
	kill 'KILL', running_executor($node, 'postgres');
	check("crash $crash", 4);
}
# An executor that is not told of a job cannot run it before those it is told of; no more than the order
# of jobs suffers from that.
set_and_reload($node, 'backfill.hint_faults', 0.1);
run_load('with faults in what shared memory says', 10);
check('with faults in what shared memory says');
set_and_reload($node, 'backfill.hint_faults', 0);

# --- A paused queue and a full one, with very many jobs that came before all others.
$node->safe_psql('postgres', 'CREATE DATABASE backlog');
create_extension($node, 'backlog');
$node->safe_psql('backlog', q{
	SELECT backfill.set_queue('customer 1', 1), backfill.set_queue('full', 1), backfill.set_queue('paused', 1), backfill.pause_queue('paused');
	CREATE FUNCTION hold(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(1) WHERE payload ? 'hold';
	END $$;
	SELECT backfill.register_task('hold', 'hold(jsonb)', timeout => '1h');
});
my $gate = $node->background_psql('backlog');
$gate->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('backlog', q{SELECT backfill.enqueue('hold', '{"hold": true}', 'full')});
wait_until($node, 'backlog', q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted}, 'the full queue is full');
$node->safe_psql('backlog', q{
	SELECT count(*) FROM backfill.enqueue_many('hold', ARRAY(SELECT '{}'::jsonb FROM generate_series(1, 30000)), 'full');
	SELECT count(*) FROM backfill.enqueue_many('hold', ARRAY(SELECT '{}'::jsonb FROM generate_series(1, 30000)), 'paused')});

# Runs one job, beside a number of others; returns how many blocks of the index were read meanwhile.
sub run_one
{
	my ($name, $others) = @_;
	my $blocks = q{SELECT sum(idx_blks_hit + idx_blks_read) FROM pg_statio_all_indexes WHERE indexrelname = 'job_ready_idx'};
	my $before = $node->safe_psql('backlog', $blocks);
	my $id = $node->safe_psql('backlog', q{SELECT backfill.enqueue('hold', '{}', 'customer 1')});
	wait_until($node, 'backlog', "SELECT count(*) = 0 FROM backfill.job WHERE id = $id", $name);
	wait_until($node, 'backlog', q{SELECT count(*) FROM backfill.workers WHERE kind = 'executor' AND state <> 'idle'}, 'the executor rests', $others);
	return $node->safe_psql('backlog', $blocks) - $before;
}

run_one('a job behind 60,000 that may not start runs', 1);
my $few = 0;
for my $n (1 .. 5)
{
	my $walked = run_one("the next job behind them runs ($n)", 1);
	note "$walked blocks";
	$few++ if $walked < 400;
}
cmp_ok($few, '>=', 3, 'executors do not walk over what may not start, again and again');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
$gate->quit;
$node->safe_psql('backlog', q{SELECT backfill.resume_queue('paused')});
wait_until($node, 'backlog', 'SELECT count(*) = 0 FROM backfill.job', 'what waited runs when it may');

# --- A producer names very many queues, of jobs that are not due.
$node->safe_psql('backlog', q{SELECT count(*) FROM backfill.enqueue_jobs((
	SELECT jsonb_agg(jsonb_build_object('task_identifier', 'hold', 'queue_name', 'tomorrow ' || n, 'run_at', now() + '1 day')) FROM generate_series(1, 20000) n))});
$few = 0;
for my $n (1 .. 5)
{
	my $walked = run_one("a job runs beside 20,000 for tomorrow in as many queues ($n)", 0);
	note "$walked blocks";
	$few++ if $walked < 400;
}
cmp_ok($few, '>=', 3, 'executors do not look into each queue');
is($node->safe_psql('backlog', q{SELECT status FROM backfill.health() WHERE check_name = 'ranges'}), 'ok', 'and queues are no combinations that make looks slow');

$node->stop;
check_log($node, crashes => 1);
done_testing();

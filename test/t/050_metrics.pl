# The metrics of a server with live workers: they equal what the tables say after failures, free
# retries, snoozes, discards, requeued and deleted letters, rollbacks, ended workers and a crash; the label sets are bounded; Prometheus' own tools
# accept the text, and its exporter for PostgreSQL shows the same numbers. Needs Debian's packages
# prometheus, prometheus-postgres-exporter and python3-prometheus-client.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use HTTP::Tiny;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $share = "$FindBin::RealBin/../../share";
my $node = preloaded('metrics',
	conf => "backfill.max_executors = 3\nrestart_after_crash = on\nbackfill.dlq_processor_interval = '1s'\n");
create_extension($node);

# --- The truth. `intended` has a row for each committed enqueue, `effect` one for each
# completed run, `snooze` one for each that was snoozed, with the launcher's start as its era: a
# crash begins another. The sequences count failures, because they keep their value when those
# are rolled back. Of 25 jobs one has a permanent error, one discards itself, one is snoozed once.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE intended (token bigint GENERATED ALWAYS AS IDENTITY, queue text);
	CREATE TABLE effect (token bigint, queue text, era timestamptz);
	CREATE TABLE snooze (token bigint, queue text, era timestamptz);
	CREATE SEQUENCE failed;
	CREATE SEQUENCE failed_free;
	CREATE FUNCTION era() RETURNS timestamptz LANGUAGE sql AS
		$$ SELECT backend_start FROM pg_stat_activity WHERE backend_type = 'backfill launcher' $$;
	CREATE FUNCTION work(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(76) WHERE payload ? 'gate';
		IF payload->>'fate' = 'snooze' AND NOT EXISTS (SELECT FROM snooze s WHERE s.token = (payload->>'token')::bigint) THEN
			INSERT INTO snooze VALUES ((payload->>'token')::bigint, payload->>'queue', era());
			PERFORM backfill.snooze('1 ms');
			RETURN;
		ELSIF payload->>'fate' = 'discard' THEN
			PERFORM backfill.discard('no use');
			RETURN;
		END IF;
		INSERT INTO effect VALUES ((payload->>'token')::bigint, payload->>'queue', era());
		PERFORM pg_sleep((payload->>'ms')::float8 / 1000) WHERE payload ? 'ms';
		IF payload->>'fate' = 'permanent' THEN
			RAISE 'never' USING ERRCODE = '22000';
		ELSIF random() < (payload->>'share')::float8 / 4 THEN
			PERFORM nextval('failed_free');
			RAISE 'no fault' USING ERRCODE = '40001';
		ELSIF random() < (payload->>'share')::float8 THEN
			PERFORM nextval('failed');
			RAISE 'this time not';
		END IF;
	END $$;
	CREATE FUNCTION produce(queue text, details jsonb) RETURNS bigint LANGUAGE sql AS $$
		WITH i AS (INSERT INTO intended (queue) VALUES (produce.queue) RETURNING token)
		SELECT backfill.enqueue('work', details || jsonb_build_object('token', token, 'queue', produce.queue)
			|| CASE token % 25 WHEN 0 THEN '{"fate": "permanent"}' WHEN 1 THEN '{"fate": "discard"}' WHEN 2 THEN '{"fate": "snooze"}' ELSE '{}' END::jsonb, queue_name => produce.queue) FROM i
	$$;
	SELECT backfill.set_retry_policy('quick', 3, '1 ms', '5 ms', 1, 0);
	SELECT backfill.register_task('work', 'work(jsonb)', retry_policy => 'quick');

	-- What the tables say, in the metrics' own words.
	CREATE VIEW truth AS
	WITH letter AS (SELECT queue_name AS queue, failure_reason ~ '^(permanent|discarded)' AS permanent FROM backfill.dlq WHERE failed_at > era())
	SELECT 'enqueued ' || queue AS what, count(*)::float8 AS n FROM intended GROUP BY queue
	UNION ALL SELECT 'completed ' || queue, count(*) FROM effect WHERE era = era() GROUP BY queue
	UNION ALL SELECT 'snoozed ' || queue, count(*) FROM snooze WHERE era = era() GROUP BY queue
	UNION ALL SELECT 'failed permanent', count(*) FROM letter WHERE permanent
	UNION ALL SELECT 'dlq_added ' || queue || CASE WHEN permanent THEN ' permanent' ELSE ' max_attempts' END, count(*) FROM letter GROUP BY queue, permanent
	UNION ALL SELECT 'exhausted', count(*) FROM letter WHERE NOT permanent;
	CREATE VIEW counted AS
	SELECT 'enqueued ' || (labels->>'queue') AS what, value AS n FROM backfill.metrics('backfill_jobs_enqueued') WHERE labels->>'task' = 'work' AND value > 0
	UNION ALL SELECT 'completed ' || (labels->>'queue'), value FROM backfill.metrics('backfill_jobs_completed') WHERE value > 0
	UNION ALL SELECT 'snoozed ' || (labels->>'queue'), value FROM backfill.metrics('backfill_jobs_snoozed') WHERE value > 0
	UNION ALL SELECT 'failed permanent', sum(value) FROM backfill.metrics('backfill_jobs_failed') WHERE labels->>'error_type' = 'permanent'
	UNION ALL SELECT 'dlq_added ' || (labels->>'queue') || ' ' || (labels->>'reason'), value FROM backfill.metrics('backfill_dlq_jobs_added') WHERE value > 0
	UNION ALL SELECT 'exhausted', sum(value) FROM backfill.metrics('backfill_retries_exhausted');
	CREATE FUNCTION total(name text) RETURNS float8 LANGUAGE sql AS
		$$ SELECT coalesce(sum(m.value), 0) FROM backfill.metrics(total.name) m WHERE m.name = total.name $$;
});

# Counters follow the commit by microseconds, hence the polling.
sub wait_for_truth
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', "$name: all jobs have ended");
	wait_until($node, 'postgres', q{
		SELECT coalesce(string_agg(w, ', '), '') FROM (SELECT 'missing: ' || m::text AS w FROM (TABLE truth EXCEPT TABLE counted) m
			UNION ALL SELECT 'wrong: ' || m::text FROM (TABLE counted EXCEPT TABLE truth) m) d}, "$name: counters follow", '');
	is($node->safe_psql('postgres', 'TABLE counted ORDER BY what'),
		$node->safe_psql('postgres', 'TABLE truth ORDER BY what'), "$name: the counters are the truth");
	# The duration of the run that ended its executor is unknown.
	my $lost = 0 - scalar(log_lines($node, qr/is charged an attempt/));
	is($node->safe_psql('postgres', q{SELECT total('backfill_jobs_started') - total('backfill_jobs_completed') - total('backfill_jobs_snoozed') - total('backfill_jobs_failed'),
			total('backfill_jobs_wait_time_seconds') - total('backfill_jobs_started'), total('backfill_jobs_duration_seconds') - total('backfill_jobs_started')}),
		"0|$lost|$lost", "$name: every started run has an outcome, a duration and a wait");
	return;
}

# Every job that came in was completed, dropped or buried, or is still there. Not true of a task
# whose jobs outlived the counters, in a crash.
sub is_balanced
{
	my ($name, $except) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', q{
		SELECT coalesce(m.task, j.task) || ' ' || coalesce(m.n, 0) || ' ' || coalesce(j.n, 0)
		  FROM (SELECT labels->>'task' AS task, sum(CASE WHEN name ~ 'enqueued|requeued' THEN value ELSE -value END) AS n FROM backfill.metrics()
				 WHERE name ~ '^backfill_(jobs_(enqueued|completed|dropped)|dlq_jobs_(added|requeued))$' GROUP BY 1) m
		  FULL JOIN (SELECT task_identifier::text AS task, count(*) AS n FROM backfill.job GROUP BY 1) j ON j.task = m.task
		 WHERE coalesce(m.n, 0) <> coalesce(j.n, 0) AND coalesce(m.task, j.task) <> '} . ($except // '') . q{'}), '', "$name: what came in has ended or is there");
	return;
}

# --- A fifth of the runs fail; producers roll back, also to savepoints.
my $producer = q{
\set queue random(0, 2)
\set inner random(0, 1)
\set outer random(0, 4)
BEGIN;
SELECT produce('q' || :queue, '{"share": 0.2}');
SAVEPOINT s;
SELECT produce('q' || :queue, '{"share": 0.2}'), produce('q0', '{"share": 0.2}');
\if :inner
ROLLBACK TO s;
\else
RELEASE s;
\endif
SELECT produce('q1', '{"share": 0.2}');
\if :outer
COMMIT;
\else
ROLLBACK;
\endif
};
is(finish_pgbench(start_pgbench($node, 'postgres', $producer, '-c', 4, '-t', 100)), 0, 'producers have enqueued');
wait_for_truth('after failures and rollbacks');
cmp_ok($node->safe_psql('postgres', q{SELECT total('backfill_jobs_failed') / total('backfill_jobs_started')}), '>', 0.15, 'about a fifth has failed');
is($node->safe_psql('postgres', q{SELECT value = (SELECT f.last_value + g.last_value FROM failed f, failed_free g) FROM
		(SELECT sum(value) AS value FROM backfill.metrics('backfill_jobs_failed') WHERE labels->>'error_type' = 'retryable') f}), 't', 'each failure to be retried was counted');
is($node->safe_psql('postgres', q{SELECT total('backfill_retries_attempted') = f.last_value + g.last_value - total('backfill_retries_exhausted') FROM failed f, failed_free g}), 't', 'each retry was counted');
cmp_ok($node->safe_psql('postgres', 'SELECT last_value FROM failed_free'), '>', 10, 'retries that cost no attempt are among them');
is_balanced('after failures and rollbacks');
cmp_ok($node->safe_psql('postgres', q{SELECT total('backfill_retries_exhausted')}), '>', 0, 'some jobs have used up their attempts');
is($node->safe_psql('postgres', q{SELECT total('backfill_dlq_size') - count(*) FROM backfill.dlq}), 0, 'the size of the dead letter queue');
cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM backfill.metrics('backfill_worker_polls') WHERE labels->>'result' = 'jobs_found' AND value > 0}),
	'==', 2, 'dispatcher and executors have found jobs');
cmp_ok($node->safe_psql('postgres', q{SELECT min(value) FROM backfill.metrics('backfill_db_operations') WHERE labels->>'status' = 'success' AND labels->>'operation' <> 'requeue'}),
	'>', 0, 'each kind of operation was counted');

# --- Executors end in the middle of a batch: what they undid was not counted. The last jobs wait
# for a gate, so that there is always an executor with a job.
my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(76)');
$node->safe_psql('postgres', q{SELECT count(produce('q' || i % 3, '{"share": 0, "ms": 1}')) FROM generate_series(1, 600) i;
	SELECT count(produce('q2', '{"share": 0, "gate": true}')) FROM generate_series(1, 10) i});
for my $round (1 .. 3)
{
	my $pid = running_executor($node, 'postgres');
	is($node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)"), 't', "executor $pid is ended");
	wait_until($node, 'postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid", 'the executor is gone');
}
$gate->query_safe('SELECT pg_advisory_unlock(76)');
wait_for_truth('after ended executors');

# --- A crash: counters begin at zero, and are right again from there.
cmp_ok($node->safe_psql('postgres', q{SELECT total('backfill_jobs_completed')}), '>', 600, 'there are counts that could be lost');
$gate->query_safe('SELECT pg_advisory_lock(76)');
$node->safe_psql('postgres', q{SELECT count(produce('q' || i % 3, '{"share": 0.2, "ms": 2}')) FROM generate_series(1, 900) i;
	SELECT count(produce('q2', '{"share": 0.2, "gate": true}')) FROM generate_series(1, 10) i});
my $position = log_position($node);
is(kill('KILL', running_executor($node, 'postgres')), 1, 'an executor is killed');
eval { $gate->quit };
$node->wait_for_log(qr/all server processes terminated; reinitializing/, $position);
wait_until($node, 'postgres', 'SELECT true', 'the server is back');
is($node->safe_psql('postgres', q{SELECT total('backfill_jobs_enqueued')}), 0, 'after a crash counters begin at zero');
$node->safe_psql('postgres', 'TRUNCATE intended');
is(finish_pgbench(start_pgbench($node, 'postgres', $producer, '-c', 4, '-t', 50)), 0, 'producers have enqueued again');
wait_for_truth('after a crash');
cmp_ok($node->safe_psql('postgres', q{SELECT total('backfill_jobs_failed') / total('backfill_jobs_started')}), '>', 0.15, 'about a fifth has failed again');
is($node->safe_psql('postgres', q{SELECT sum(value) - total('backfill_retries_attempted') - total('backfill_retries_exhausted')
		FROM backfill.metrics('backfill_jobs_failed') WHERE labels->>'error_type' = 'retryable'}), 0, 'each failure was retried, or was the last');

# --- Jobs that are failed, but not by their handler, count as started and failed: one whose
# transaction cannot commit (a deferred trigger is content when it is tried), one whose role is gone.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE late (n int);
	CREATE SEQUENCE looks;
	CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN IF nextval('looks') > 1 THEN RAISE 'too late' USING ERRCODE = '22000'; END IF; RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER look AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION look();
	CREATE FUNCTION be_late(payload jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO late VALUES (1)';
	CREATE ROLE leaver LOGIN;
	SELECT backfill.register_task('be late', 'be_late(jsonb)'), backfill.register_task('leave', 'be_late(jsonb)', run_as => 'leaver');
	DROP ROLE leaver;
	SELECT backfill.enqueue('be late'), backfill.enqueue('leave')});
wait_until($node, 'postgres', q{SELECT sum(value) = 2 FROM backfill.metrics('backfill_dlq_size') WHERE labels->>'task' IN ('be late', 'leave')}, 'both jobs are dead letters');
for my $task ('be late', 'leave')
{
	wait_until($node, 'postgres', qq{
		SELECT array_agg(name || ' ' || value ORDER BY name) FROM backfill.metrics()
		 WHERE kind <> 'gauge' AND value > 0 AND labels->>'task' = '$task'}, "$task: started and failed",
		'{"backfill_dlq_jobs_added 1","backfill_jobs_enqueued 1","backfill_jobs_failed 1","backfill_jobs_started 1"}');
}
is($node->safe_psql('postgres', q{SELECT last_value FROM looks}), 2, 'the trigger was tried once, and failed at the commit');

# --- Dead letters: requeued in bulk, settled, deleted by hand, in bulk and by the dispatcher.
sub counts_become
{
	my ($task, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $query = qq{SELECT string_agg(c, ', ' ORDER BY c COLLATE "C") FROM (SELECT concat_ws(' ', regexp_replace(name, 'backfill_(jobs_)?', ''), labels->>'reason', labels->>'error_type', value) AS c
		FROM backfill.metrics() WHERE labels->>'task' = '$task' AND kind = 'counter' AND value > 0) m};
	wait_until($node, 'postgres', $query, $name, join(', ', sort @$expected));
	return;
}
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION again(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF payload ? 'fail' THEN RAISE 'never' USING ERRCODE = '22000'; END IF; END $$;
	SELECT backfill.register_task('again', 'again(jsonb)');
	SELECT count(backfill.enqueue('again', '{"fail": true}', job_key => 'again' || i)) FROM generate_series(1, 40) i});
counts_become('again', [ 'dlq_jobs_added permanent 40', 'enqueued 40', 'failed permanent 40', 'started 40' ], 'forty jobs are buried');
is($node->safe_psql('postgres', q{SELECT count(backfill.update_dlq_job(id, '{}')) FROM (SELECT id FROM backfill.dlq WHERE task_identifier = 'again' ORDER BY id LIMIT 15) l}), 15, 'fifteen are corrected');
is($node->safe_psql('postgres', q{SELECT count(*) FROM backfill.requeue_dlq_jobs('again')}), 40, 'all letters are requeued');
my @requeued = ('dlq_jobs_added permanent 65', 'dlq_jobs_requeued 40', 'enqueued 40', 'failed permanent 65', 'started 80');
counts_become('again', [ 'completed 15', $requeued[0], 'dlq_jobs_deleted settled 15', @requeued[ 1 .. 4 ] ], 'what is corrected succeeds and settles its letter');
is($node->safe_psql('postgres', q{SELECT backfill.delete_dlq_by_job_key('again40'), count(backfill.delete_dlq_job(id)) FROM backfill.dlq WHERE job_key = 'again39'}), 't|1', 'two letters are deleted');
$node->safe_psql('postgres', q{UPDATE backfill.dead_letter SET failed_at = failed_at - '2 days'::interval WHERE job_key IN ('again38', 'again37', 'again36');
	UPDATE backfill.dead_letter SET failed_at = failed_at - '5 days'::interval WHERE job_key IN ('again35', 'again34', 'again33', 'again32')});
is($node->safe_psql('postgres', q{SELECT backfill.cleanup_dlq('4 days', 'again')}), 4, 'four are cleaned up');
$node->append_conf('postgresql.conf', "backfill.dlq_retention = '1d'");
$node->reload;
counts_become('again', [ 'completed 15', $requeued[0], 'dlq_jobs_deleted deleted 9', 'dlq_jobs_deleted settled 15', @requeued[ 1 .. 4 ] ], 'the dispatcher deletes three letters');
is($node->safe_psql('postgres', q{SELECT value, (SELECT count(*) FROM backfill.dlq WHERE task_identifier = 'again') FROM backfill.metrics('backfill_dlq_size') WHERE labels->>'task' = 'again'}), '16|16', 'the other letters are there');
$node->append_conf('postgresql.conf', 'backfill.dlq_retention = 0');
$node->reload;

# --- A job that fails after a newer one took its key, or after it was removed, ends there. One
# without attempts is buried by the dispatcher.
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION keyed(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN IF payload ? 'fail' THEN PERFORM pg_advisory_xact_lock_shared(78); RAISE 'in vain'; END IF; END $$;
	SELECT backfill.register_task('keyed', 'keyed(jsonb)')});
$gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(78)');
$node->safe_psql('postgres', q{SELECT backfill.enqueue('keyed', '{"fail": true}', job_key => k) FROM unnest('{newer,removed}'::text[]) k});
wait_until($node, 'postgres', q{SELECT count(*) = 2 FROM pg_locks WHERE locktype = 'advisory' AND objid = 78 AND NOT granted}, 'two keyed jobs run');
is($node->safe_psql('postgres', q{SELECT count(*) FROM backfill.remove_job('removed')}), 1, 'one keyed job is removed');
$node->safe_psql('postgres', q{SELECT backfill.enqueue('keyed', job_key => 'newer', run_at => now() + interval '1 h');
	SELECT count(*) FROM backfill.reschedule_jobs(ARRAY[backfill.enqueue('keyed', '{}', run_at => now() + interval '1 h')], attempts => 8)});
$gate->query_safe('SELECT pg_advisory_unlock(78)');
$gate->quit;
counts_become('keyed', [ 'dlq_jobs_added max_attempts 1', 'dropped superseded 2', 'enqueued 4', 'failed retryable 2', 'started 2', 'retries_exhausted 1' ],
	'superseded jobs are dropped, the one without attempts is buried');
is_balanced('after requeues and newer keys', 'work');

# --- Queues: the gauges are what the table says, also of paused and limited queues.
$node->safe_psql(
	'postgres', q{
	SELECT backfill.set_queue('slow', 1, max_depth => 100), backfill.pause_queue('slow'), backfill.pause_queue('fast');
	SELECT backfill.enqueue('again', queue_name => 'slow', run_at => CASE WHEN i > 7 THEN now() + interval '1 h' END) FROM generate_series(1, 9) i;
	SELECT backfill.enqueue_fast('again'), backfill.enqueue('nameless', queue_name => 'unlimited')});
my $waiting = "fast|0|1|0|1\nslow|0|7|2|1\nunlimited|0|1|0|0";
is($node->safe_psql('postgres', q{SELECT queue_name, running + leased, ready, scheduled, paused::int FROM backfill.queues
	 WHERE queue_name IN ('fast', 'slow', 'unlimited') ORDER BY 1}), $waiting, 'jobs wait in paused queues');
is($node->safe_psql('postgres', q{SELECT labels->>'queue', string_agg(value::text, '|' ORDER BY name, labels->>'state') FROM backfill.metrics('backfill_queue')
	 WHERE labels->>'queue' IN ('fast', 'slow', 'unlimited') GROUP BY 1 ORDER BY 1}), $waiting, 'the gauges say so, too');
$node->safe_psql('postgres', q{SELECT backfill.resume_queue('slow'), backfill.resume_queue('fast');
	SELECT count(*) FROM backfill.complete_jobs(ARRAY(SELECT id FROM backfill.jobs WHERE queue_name = 'unlimited' OR state = 'scheduled'))});
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'resumed queues are worked off');
is($node->safe_psql('postgres', q{SELECT sum(value) FROM backfill.metrics('backfill_queue')}), 0, 'the gauges of the empty queues are zero');
is_balanced('after paused queues', 'work');
is($node->safe_psql('postgres', q{SELECT sum(value) FROM backfill.metrics('backfill_jobs_dropped') WHERE labels->>'reason' = 'cancelled'}), 4, 'what was taken away is cancelled');
# --- Random savepoints, released and rolled back: the counters are what is in the table.
{
	my $seed = time;
	srand($seed);
	my $script = '';
	for (1 .. 200)
	{
		my @open;
		$script .= "BEGIN;\n";
		for my $step (1 .. int(rand(40)))
		{
			my $choice = rand();
			my $at = int(rand(@open));
			if ($choice < 0.45 || ($choice >= 0.7 && !@open))
			{
				$script .= sprintf("SELECT backfill.enqueue('random %d', queue_name => 'r%d');\n", rand(4), rand(3));
			}
			elsif ($choice < 0.7)
			{
				push @open, "s$step";
				$script .= "SAVEPOINT s$step;\n";
			}
			elsif ($choice < 0.85)
			{
				$script .= "RELEASE $open[$at];\n";
				splice @open, $at;
			}
			else
			{
				$script .= (rand() < 0.5 ? "SELECT 1/0;\n" : '') . "ROLLBACK TO $open[$at];\n";
				splice @open, $at + 1;
			}
		}
		$script .= rand() < 0.8 ? "COMMIT;\n" : "ROLLBACK;\n";
	}
	$node->psql('postgres', $script, on_error_stop => 0);
	my $difference = $node->safe_psql('postgres', q{
		WITH counted AS (SELECT labels->>'task' AS task, labels->>'queue' AS queue, value::bigint AS n FROM backfill.metrics('backfill_jobs_enqueued') WHERE labels->>'task' ~ '^random' AND value > 0),
			 there AS (SELECT task_identifier::text AS task, queue_name::text AS queue, count(*) AS n FROM backfill.job GROUP BY 1, 2)
		(TABLE counted EXCEPT TABLE there) UNION ALL (TABLE there EXCEPT TABLE counted)});
	is($difference, '', "random savepoints are counted right (seed $seed)");
	cmp_ok($node->safe_psql('postgres', q{SELECT count(*) FROM backfill.job}), '>', 300, 'many jobs');
	$node->safe_psql('postgres', 'TRUNCATE backfill.job');
}

# --- Gauges of what runs at this moment.
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION hold(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock_shared(77)';
	SELECT backfill.register_task('hold', 'hold(jsonb)')});
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(77)');
$node->safe_psql('postgres', q{SELECT count(backfill.enqueue('hold', queue_name => 'held')) FROM generate_series(1, 5)});
wait_until($node, 'postgres', q{SELECT array_agg(labels->>'queue' || ' ' || coalesce(labels->>'state', 'active') || ' ' || value ORDER BY 1) @>
	'{held active 3,held ready 2,held scheduled 0}' FROM backfill.metrics('backfill_queue') WHERE labels->>'queue' = 'held'}, 'three jobs run, two wait');
is($node->safe_psql('postgres', q{SELECT value FROM backfill.metrics('backfill_worker_utilization')}), 1, 'all executors are in use');
is($node->safe_psql('postgres', q{SELECT string_agg(labels->>'worker_kind' || ' ' || value, ', ') FROM backfill.metrics('backfill_worker_active')}), 'dispatcher 1, executor 3', 'workers');
is($node->safe_psql('postgres', q{SELECT total('backfill_jobs_started') - total('backfill_jobs_completed') - total('backfill_jobs_snoozed') - total('backfill_jobs_failed')}), 0, 'a run counts when it is over');
$holder->query_safe('SELECT pg_advisory_unlock(77)');
$holder->quit;
wait_until($node, 'postgres', q{SELECT sum(value) = 5 FROM backfill.metrics('backfill_jobs_completed') WHERE labels->>'task' = 'hold'}, 'the five jobs are done');
wait_until($node, 'postgres', q{SELECT value = 0 FROM backfill.metrics('backfill_worker_utilization')}, 'no executor is in use');

# --- The text. promtool reads it from its standard input.
sub output_of
{
	my ($command, $input) = @_;
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run($command, '<', \$input, '>', \$out, '2>', \$err);
	return ($ok, $out, $err);
}
sub promtool_accepts
{
	my ($text, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($ok, $out, $err) = output_of([ 'promtool', 'check', 'metrics' ], $text);
	is($ok . $out . $err, 1, "promtool accepts $name") or note $text;
	return;
}
$node->safe_psql('postgres', q{SELECT backfill.enqueue(E'odd "names"\\\\ of\ntasks', queue_name => E'{}=,\t#')});
my $text = $node->safe_psql('postgres', 'SELECT backfill.prometheus_metrics()') . "\n";
promtool_accepts($text, 'the text');
is(scalar(() = $text =~ /^# TYPE /mg), 23, 'every metric is in the text');

# Another parser, Prometheus' own for Python: what it reads, as [ kind, name, labels, value ].
sub samples_of
{
	my ($text) = @_;
	my ($ok, $out, $err) = output_of([ '/usr/bin/python3', '-c', q{
import json, sys
from prometheus_client.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    for s in family.samples:
        print(json.dumps([family.type, s.name, s.labels, s.value], sort_keys=True))
} ], $text);
	die $err unless $ok;
	return map { decode_json($_) } split /\n/, $out;
}

# The counters of jobs, and how many observations their histograms have, added up per metric: by
# what a text says, and by metrics().
sub sums_of
{
	my %sum;
	$sum{ $_->[1] } += $_->[3] for grep { $_->[1] =~ /^backfill_(jobs|dlq_jobs|retries)_/ && $_->[1] =~ /_(total|count)$/ } @_;
	return \%sum;
}
my $own_sums = { map { split /\|/ } split /\n/, $node->safe_psql('postgres', q{
	SELECT name || CASE kind WHEN 'counter' THEN '_total' ELSE '_count' END, sum(value) FROM backfill.metrics()
	 WHERE kind <> 'gauge' AND name ~ '^backfill_(jobs|dlq_jobs|retries)_' GROUP BY name, kind}) };
my $odd = [ 'counter', 'backfill_jobs_enqueued_total', { task => qq{odd "names"\\ of\ntasks}, queue => "{}=,\t#", priority_band => 'bulk_default' }, 1 ];
my @samples = samples_of($text);
is_deeply([ grep { $_->[1] eq $odd->[1] && $_->[2]{task} =~ /^odd/ } @samples ], [$odd], 'another parser reads odd names as they are');
is_deeply(sums_of(@samples), $own_sums, 'the text has the numbers of metrics()');
is(scalar(grep { $_->[1] =~ /_bucket$/ && !defined $_->[2]{le} } @samples), 0, 'every bucket has its bound');

# --- Debian's exporter with the configuration that we ship, run with the options that the guide gives it.
my $guide = slurp_file("$FindBin::RealBin/../../docs/metrics.md");
{
	my ($os_user, $role, $options) = $guide =~ /^```sh\nsudo -u (\S+) env DATA_SOURCE_NAME='[^']*\buser=(\S+)[^']*' \\\n\s*prometheus-postgres-exporter (.*?)^```$/ms
	  or die 'the guide does not say how to run the exporter';
	is($role, $os_user, "the guide's role is called as the user of the operating system, which is what \"peer\" asks for");
	$options =~ s/\$\(pg_config --sharedir\)\/extension/$share/ or die 'the guide does not give the exporter the installed file';
	$options =~ s/\\\n//g;
	$node->safe_psql('postgres', q{CREATE ROLE exporter LOGIN; SELECT backfill.grant_monitor('exporter')});
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $log = '';
	local $ENV{DATA_SOURCE_NAME} = 'host=' . $node->host . ' port=' . $node->port . ' user=exporter dbname=postgres sslmode=disable';
	my $exporter = IPC::Run::start(
		[ 'prometheus-postgres-exporter', "--web.listen-address=127.0.0.1:$port", split(' ', $options) ],
		'<', \undef, '>&', \$log, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	# Newer ones complain of a file before they listen.
	pump $exporter until $log =~ /istening on/ || !$exporter->pumpable;
	my $response = HTTP::Tiny->new(timeout => 60)->get("http://127.0.0.1:$port/metrics");
	ok($response->{success}, 'the exporter answers');
	$exporter->kill_kill;
	# Newer ones want a file of their own, too, and would have other queries than these.
	$log =~ s/^.*(postgres_exporter\.yml|is DEPRECATED).*$//mg;
	unlike($log, qr/level=(error|warn)|rror/i, 'the exporter complains about nothing') or note $log;
	my $exported = $response->{content};
	# Newer ones show metrics of their own as well, with names that promtool dislikes.
	promtool_accepts(join('', grep { /^(?:# (?:TYPE|HELP) )?backfill_/ } split /^/, $exported), 'what the exporter shows');
	for my $keyword ('TYPE', 'HELP')
	{
		my %shown = $exported =~ /^# $keyword (backfill_\w+) (.+)$/mg;
		my %own = $text =~ /^# $keyword (backfill_\w+) (.+)$/mg;
		is_deeply(\%shown, \%own, "the exporter shows the same metrics, with the same $keyword");
	}
	my @shown = samples_of($exported);
	is_deeply(sums_of(@shown), $own_sums, 'the exporter shows the same numbers');
	is_deeply([ grep { $_->[1] eq $odd->[1] && $_->[2]{task} =~ /^odd/ } @shown ],
		[ [ @$odd[ 0, 1 ], { %{ $odd->[2] }, datname => 'postgres', server => $node->host . ':' . $node->port }, 1 ] ], 'odd names, too') or note explain [ grep { $_->[2]{task} && $_->[2]{task} =~ /^odd/ } @shown ];
	my ($enqueued) = $node->safe_psql('postgres', q{SELECT value FROM backfill.metrics('backfill_jobs_enqueued') WHERE labels @> '{"task": "work", "queue": "q1"}'});
	like($exported, qr/^backfill_jobs_enqueued_total\{datname="postgres",priority_band="bulk_default",queue="q1",server="[^"]*",task="work"\} $enqueued$/m,
		'the exporter shows the labels of metrics()');
	my ($count) = $node->safe_psql('postgres', q{SELECT value FROM backfill.metrics('backfill_jobs_duration') WHERE labels @> '{"task": "work", "queue": "q1", "status": "success"}'});
	like($exported, qr/^backfill_jobs_duration_seconds_bucket\{[^}]*queue="q1"[^}]*status="success",task="work",le="\+Inf"\} $count$/m, 'the exporter shows the labels of histograms');
}

# --- The dashboard and the alerts ask for metrics and labels that exist.
my $dashboard = decode_json(slurp_file("$share/backfill-dashboard.json"));
my @expressions = map { $_->{expr} } map { @{ $_->{targets} } } @{ $dashboard->{panels} };
my $alerts = slurp_file("$share/backfill-alerts.yaml");
cmp_ok(scalar(@expressions), '>=', 20, 'the dashboard has queries');
my %shown;
my %known = map { $_ => 1 } $text =~ /^(backfill_\w+)/mg;
$shown{$_} = 1 for map { /\b(backfill_\w+)/g } @expressions, $alerts =~ /expr: (.*)/g;
is(join(' ', sort grep { !$known{$_} } keys %shown), '', 'dashboard and alerts name metrics that exist');
is(join(' ', grep { my $m = $_; !grep { /^\Q$m\E/ } keys %shown } $text =~ /^# HELP (\w+)/mg), '', 'dashboard and alerts name every metric between them');
{
	my $number = 0;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	append_to_file("$dir/rules.yml", "groups:\n- name: dashboard\n  rules:\n" . join '',
		map { s/\$__rate_interval/5m/gr =~ s/\$\w+/x/gr =~ s/(.*)/"  - record: panel" . $number++ . "\n    expr: '$1'\n"/er } @expressions);
	my ($ok, $out, $err) = output_of([ 'promtool', 'check', 'rules', "$dir/rules.yml" ], '');
	ok($ok, "promtool accepts the dashboard's queries") or note $out . $err;
	($ok, $out, $err) = output_of([ 'promtool', 'check', 'rules', "$share/backfill-alerts.yaml" ], '');
	ok($ok, 'promtool accepts the alerts') or note $out . $err;
}

# --- docs/metrics.md: its SQL runs, in order, and says what is true.
$node->safe_psql('postgres', 'DROP OWNED BY exporter; DROP ROLE exporter');
$node->safe_psql('postgres', 'CREATE DATABASE guide');
create_extension($node, 'guide');
for my $block ($guide =~ /^```sql\n(.*?)^```$/msg)
{
	my ($code, $out, $err) = finish_psql(start_psql($node, 'guide', $block));
	is("$code $err", '0 ', 'an example of the guide runs: ' . (split /\n/, $block)[0]);
	like($out, qr/^1$/m, 'and prints what it says') if $block =~ /-- 1, still/;
}
my %documented = map { $_ => 1 } $guide =~ /^\| `(backfill_\w+)` \|/mg;
is_deeply([ sort keys %documented ], [ sort split /\n/, $node->safe_psql('guide', 'SELECT name FROM backfill._metric_catalogue()') ], 'the guide lists every metric');
$node->stop;
check_log($node, crashes => 1);

# --- Bounded label sets: those beyond the maximum are counted together.
my $small = preloaded('small', conf => "backfill.metrics_max_label_sets = 3\nbackfill.max_executors = 0\n");
create_extension($small);
$small->safe_psql('postgres', "SELECT backfill.enqueue('task ' || i) FROM generate_series(1, 5) i") for 1 .. 2;
my $per_task = q{SELECT labels->>'task', labels->>'queue', labels->>'priority_band', value FROM backfill.metrics('backfill_jobs_enqueued')};
is($small->safe_psql('postgres', $per_task),
	join("\n", 'other|other|other|4', map { "task $_|bulk|bulk_default|2" } 1 .. 3), 'three label sets have counters of their own');
is($small->safe_psql('postgres', q{SELECT labels->>'queue', value FROM backfill.metrics('backfill_queue_depth') WHERE labels->>'state' = 'ready'}),
	"bulk|10\nfast|0", 'queues are listed as long as there is room');
$small->safe_psql('postgres', q{SELECT count(backfill.enqueue('task', queue_name => 'queue ' || i)) FROM generate_series(1, 9) i});
is($small->safe_psql('postgres', q{SELECT labels->>'queue', value FROM backfill.metrics('backfill_queue_depth') WHERE labels->>'state' = 'ready'}),
	"bulk|10\nother|8\nqueue 1|1\nqueue 2|1" =~ s/other\|8/other|7/r, 'when there is no more room, the longest queues are listed, and the others together');
# Other databases have their own "other"; a dropped one leaves its places to others.
$small->safe_psql('postgres', 'CREATE DATABASE second');
create_extension($small, 'second');
$small->safe_psql('second', q{SELECT backfill.enqueue('task 1')});
is($small->safe_psql('second', $per_task), 'task 1|bulk|bulk_default|1', 'another database takes a place from the one that has more than its share');
is($small->safe_psql('postgres', q{SELECT sum(value) FROM backfill.metrics('backfill_jobs_enqueued')}), 19, 'whose sum stays as it was');
$small->safe_psql('second', q{SELECT backfill.enqueue('task 2')});
is($small->safe_psql('second', $per_task), "other|other|other|1\ntask 1|bulk|bulk_default|1", 'another database takes no more than its share');
$small->safe_psql('postgres', 'DROP DATABASE second');
$small->safe_psql('postgres', 'CREATE DATABASE third');
$small->safe_psql('postgres', 'CREATE DATABASE fourth');
create_extension($small, $_) for qw(third fourth);
is($small->safe_psql('third', $per_task), '', 'a new database begins with nothing');
$small->stop;
$small->append_conf('postgresql.conf', 'backfill.metrics_max_label_sets = 2');
$small->start;
is($small->safe_psql('postgres', $per_task), '', 'counters begin at zero with the server');
$small->safe_psql($_, "SELECT backfill.enqueue('a')") for qw(third fourth);
$small->safe_psql('postgres', "SELECT backfill.enqueue('b')");
is($small->safe_psql('postgres', $per_task), 'other|other|other|1', 'all places are taken by two databases');
$small->safe_psql('postgres', 'DROP DATABASE third');
$small->safe_psql('postgres', "SELECT backfill.enqueue('c')");
is($small->safe_psql('postgres', $per_task), "c|bulk|bulk_default|1\nother|other|other|1", 'a dropped database gives its places back');
$small->stop;
$small->append_conf('postgresql.conf', 'backfill.metrics_max_label_sets = 0');
$small->start;
$small->safe_psql('postgres', "SELECT backfill.enqueue('a'), backfill.enqueue('b')");
is($small->safe_psql('postgres', $per_task), 'other|other|other|2', 'without any label set everything is counted together');
$small->stop;
check_log($small);

# --- Without shared memory: gauges from the tables, no counters.
my $plain = new_server('plain');
$plain->start;
create_extension($plain);
$plain->safe_psql(
	'postgres', q{
	CREATE FUNCTION never(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'never' USING ERRCODE = '22000'; END $$;
	SELECT backfill.register_task('never', 'never(jsonb)');
	SELECT backfill.enqueue('never'), backfill.enqueue('nameless', queue_name => 'q');
	CALL backfill.process_available_jobs();
	SELECT backfill.delete_dlq_job(0)});
is($plain->safe_psql('postgres', q{SELECT DISTINCT name FROM backfill.metrics() ORDER BY name}),
	join("\n", map { "backfill_$_" } qw(dlq_age_seconds dlq_size queue_active_jobs queue_depth queue_is_paused worker_active worker_utilization)),
	'without preloading there are gauges only');
is($plain->safe_psql('postgres', q{SELECT string_agg(labels->>'queue' || ' ' || value, ', ') FROM backfill.metrics('backfill_queue_depth') WHERE labels->>'state' = 'ready'}),
	'bulk 0, fast 0, q 1', 'the gauges without preloading are right');
is($plain->safe_psql('postgres', q{SELECT sum(value) FROM backfill.metrics('backfill_dlq_size')}), 1, 'the gauges of dead letters are right without preloading');
promtool_accepts($plain->safe_psql('postgres', 'SELECT backfill.prometheus_metrics()') . "\n", 'the text without counters');
$plain->stop;
check_log($plain);
done_testing();

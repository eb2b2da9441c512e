# Jobs whose handler is a procedure: it runs as a top-level CALL as the task's role, keeps what it has
# committed, leaves nothing behind in its session, and its job is released at once when its
# executor ends. poll_interval is one hour: what happens, happens because a worker was told.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('procedures',
	conf => "backfill.poll_interval = '1h'\nbackfill.max_executors = 1\nrestart_after_crash = on\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE ran (id serial, name text, note text, pid int DEFAULT pg_backend_pid());
	CREATE ROLE worker LOGIN;
	GRANT ALL ON ran, ran_id_seq TO worker;
	SELECT backfill.grant_producer('worker');

	-- What its payload says, between two commits.
	CREATE PROCEDURE act(payload jsonb) LANGUAGE plpgsql AS $$
	DECLARE
		job record;
		i int;
	BEGIN
		job := backfill.current_job();
		INSERT INTO ran (name, note) VALUES (payload->>'name', format('%s %s of %s', session_user, job.attempt, job.max_attempts));
		COMMIT;
		IF payload ? 'sql' THEN
			EXECUTE payload->>'sql';
			COMMIT;
		END IF;
		IF payload ? 'fail' THEN
			RAISE 'and fails';
		END IF;
		IF payload ? 'sleep' AND job.attempt = 1 THEN
			PERFORM pg_sleep(3600);
		END IF;
		FOR i IN SELECT generate_series(1, 3) LOOP -- a cursor over commits
			INSERT INTO ran (name, note) VALUES (payload->>'name', i || ' of ' || (backfill.current_job()).id);
			IF i = 2 THEN ROLLBACK; ELSE COMMIT; END IF;
		END LOOP;
	END $$;
	CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO ran (name, note) VALUES (payload->>'name', payload->>'note') $$;
	CREATE FUNCTION state_of_session(payload jsonb) RETURNS void LANGUAGE sql AS $$
		INSERT INTO ran (name, note) SELECT payload->>'name', concat_ws(', ', current_user, session_user, current_setting('search_path'),
			current_setting('work_mem'), current_setting('lock_timeout'), current_setting('default_transaction_read_only'),
			nullif(current_setting('my.own', true), ''), current_setting('application_name'),
			(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND classid = 0),
			(SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_cursors), (SELECT count(*) FROM pg_listening_channels()),
			to_regclass('pg_temp.left_over')) $$;
	SELECT backfill.set_retry_policy('quick', 3, '1 ms', '1 ms', 1, 0);
	SELECT backfill.set_retry_policy('tomorrow', 3, '1 day', '1 day', 1, 0);
	SELECT backfill.register_task('act', 'act(jsonb)', retry_policy => 'quick', run_as => 'worker');
	SELECT backfill.register_task('later', 'act(jsonb)', retry_policy => 'tomorrow', run_as => 'worker');
	SELECT backfill.register_task('note', 'note(jsonb)', run_as => 'worker');
	SELECT backfill.register_task('state', 'state_of_session(jsonb)', run_as => 'worker');
});

sub enqueue
{
	my ($task, $payload, $more) = @_;
	return $node->safe_psql('postgres', "SELECT backfill.enqueue('$task', \$payload\$$payload\$payload\$" . ($more // '') . ')');
}

# Assertions: what the job has done in the end, and what is left of it.
sub has_ended
{
	my ($id, $name, $effects, $left) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until($node, 'postgres', "SELECT NOT EXISTS (SELECT FROM backfill.jobs WHERE id = $id AND state IN ('ready', 'running'))",
		"$name: the job ends");
	is($node->safe_psql('postgres', "SELECT string_agg(note, ', ' ORDER BY id) FROM ran WHERE name = '$name'"),
		$effects, "$name: its effects");
	is( $node->safe_psql('postgres', qq{SELECT state || ' ' || attempts || coalesce(' ' || (last_error->>'message'), '') FROM backfill.jobs WHERE id = $id
			UNION ALL SELECT 'dead: ' || failure_reason FROM backfill.dlq WHERE original_job_id = $id}),
		$left // '', "$name: what is left");
	return;
}

# --- A run.

my $id = enqueue('act', '{"name": "plain"}');
has_ended($id, 'plain', "worker 1 of 3, 1 of $id, 3 of $id");
is($node->safe_psql('postgres', q{SELECT jobs_done, jobs_failed, job_id IS NULL AS rests FROM backfill.workers WHERE kind = 'executor'}),
	'1|0|t', 'the executor counts the procedure');
is( $node->safe_psql('postgres', q{SELECT string_agg(name || ' ' || value, ', ' ORDER BY name) FROM backfill.metrics()
		WHERE name IN ('backfill_jobs_started', 'backfill_jobs_completed') AND value > 0}),
	'backfill_jobs_completed 1, backfill_jobs_started 1', 'the metrics count the procedure');

# A payload that is stored out of line.
$id = $node->safe_psql('postgres', q{SELECT backfill.enqueue('act', jsonb_build_object('name', 'long', 'text',
	(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) i)))});
has_ended($id, 'long', "worker 1 of 3, 1 of $id, 3 of $id");

# --- Errors: what was committed before stays.

$id = enqueue('act', q{{"name": "fails", "sql": "DO 'BEGIN RAISE ''no''; END'"}});
has_ended($id, 'fails', 'worker 1 of 3, worker 2 of 3, worker 3 of 3', 'dead: all 3 attempts failed: no');
is(scalar(log_lines($node, qr/CONTEXT:  job $id, task "act", queue "bulk", attempt 3 of 3/)), 1, 'the log has its context');
$id = enqueue('later', q{{"name": "fails at the commit", "sql": "INSERT INTO deferred VALUES (1), (1)"}});
has_ended($id, 'fails at the commit', 'worker 1 of 3', 'dead: permanent error 42P01: relation "deferred" does not exist');
$node->safe_psql('postgres', 'CREATE TABLE deferred (id int UNIQUE DEFERRABLE INITIALLY DEFERRED); GRANT ALL ON deferred TO worker');
$id = enqueue('later', q{{"name": "deferred", "sql": "INSERT INTO deferred VALUES (1), (1)"}});
has_ended($id, 'deferred', 'worker 1 of 3',
	'dead: permanent error 23505: duplicate key value violates unique constraint "deferred_id_key"');

# --- The verdict of the handler.

$id = enqueue('act', q{{"name": "snoozes", "sql": "SELECT backfill.snooze('1 h')"}});
has_ended($id, 'snoozes', "worker 1 of 3, 1 of $id, 3 of $id", 'scheduled 0');
$id = enqueue('act', q{{"name": "discards", "sql": "SELECT backfill.discard('useless')"}});
has_ended($id, 'discards', "worker 1 of 3, 1 of $id, 3 of $id", 'dead: discarded by its handler: useless');

# It follows the procedure's transactions: a COMMIT keeps it, a ROLLBACK takes back what was said since
# the last one, also with a result.
$node->safe_psql(
	'postgres', q{
	CREATE PROCEDURE speak(payload jsonb) LANGUAGE plpgsql AS $$
	DECLARE word text;
	BEGIN
		FOR word IN SELECT jsonb_array_elements_text(payload->'words') LOOP
			CASE word
				WHEN 'commit' THEN COMMIT;
				WHEN 'rollback' THEN ROLLBACK;
				WHEN 'snooze' THEN PERFORM backfill.snooze('1 h');
				WHEN 'discard' THEN PERFORM backfill.discard('spoken');
				ELSE PERFORM backfill.set_result(to_jsonb(word));
			END CASE;
		END LOOP;
		INSERT INTO ran (name) VALUES ('speaks');
	END $$;
	SELECT backfill.register_task('speak', 'speak(jsonb)', run_as => 'worker', keep_history => '1 day');
});
for (
	['"snooze", "rollback"', '', 'completed'],
	['"discard", "commit", "snooze", "rollback"', 'dead: discarded by its handler: spoken', 'discarded'],
	['"discard", "commit", "snooze", "commit", "discard", "rollback"', 'scheduled 0', ''],
	['"one", "commit", "two", "rollback"', '', 'completed "one"'],
	['"one", "commit", "two"', '', 'completed "two"'],
	['"one", "rollback"', '', 'completed'])
{
	my ($words, $left, $history) = @$_;
	$id = enqueue('speak', "{\"words\": [$words]}");
	wait_until($node, 'postgres', "SELECT NOT EXISTS (SELECT FROM backfill.jobs WHERE id = $id AND state IN ('ready', 'running'))", "$words: the job ends");
	is( $node->safe_psql('postgres', qq{SELECT state || ' ' || attempts FROM backfill.jobs WHERE id = $id
			UNION ALL SELECT 'dead: ' || failure_reason FROM backfill.dlq WHERE original_job_id = $id}), $left, "$words: what is left");
	is($node->safe_psql('postgres', "SELECT concat_ws(' ', outcome, result) FROM backfill.history WHERE id = $id"), $history, "$words: the history");
}

# --- Nothing of a procedure reaches the next job, nor the record of its own outcome.

$node->safe_psql('postgres', q{GRANT pg_read_all_data TO worker});
enqueue('state', '{"name": "session before"}');
wait_until($node, 'postgres', q{SELECT count(*) FROM ran WHERE name = 'session before'}, 'a job looks at its session', 1);
my $i = 0;
for my $leak (
	'SET work_mem = 12345', 'SET search_path = pg_temp', 'SET lock_timeout = 1', 'SET default_transaction_read_only = on',
	'SET ROLE pg_read_all_data', q{SELECT set_config('my.own', 'x', false)}, 'SELECT pg_advisory_lock(1)',
	'CREATE TEMP TABLE left_over AS SELECT 1', 'DECLARE c CURSOR WITH HOLD FOR SELECT 1', 'PREPARE s AS SELECT 1', 'SET SESSION AUTHORIZATION DEFAULT',
	q{SET default_transaction_isolation = 'serializable'}, 'SET application_name = own')
{
	# A COMMIT follows, and perhaps an error.
	for my $end ('', ', "fail": true')
	{
		$i++;
		$id = enqueue('later', qq[{"name": "leak $i", "sql": "$leak"$end}]);
		enqueue('state', qq[{"name": "after $i"}]);
		wait_until($node, 'postgres', "SELECT count(*) FROM ran WHERE name = 'after $i'", "$leak$end: the next job", 1);
		is( $node->safe_psql('postgres', "SELECT note FROM ran WHERE name = 'after $i'"),
			$node->safe_psql('postgres', q{SELECT note FROM ran WHERE name = 'session before'}),
			"$leak$end: its session is clean");
		wait_until($node, 'postgres', "SELECT count(*) FROM backfill.jobs WHERE state IN ('ready', 'running')", "$leak$end: the outcome is recorded", 0);
	}
}
is($node->safe_psql('postgres', "SELECT count(*) FROM backfill.jobs WHERE last_error->>'message' = 'and fails'"),
	$i / 2, 'procedures that failed have failed with their own error');
is($node->safe_psql('postgres', 'SELECT count(DISTINCT pid) FROM ran'), 1, 'one executor has run all procedures');
$node->safe_psql('postgres', 'SELECT count(backfill.cancel_job(id)) FROM backfill.jobs');

# --- Hooks.

$node->safe_psql(
	'postgres', q{
	CREATE TABLE seen (id serial, event text, job text);
	CREATE FUNCTION see(event jsonb) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO public.seen (event, job) VALUES (event->>'event', event->'job'->'payload'->>'name') $$;
	CREATE FUNCTION skip(event jsonb) RETURNS jsonb LANGUAGE sql AS
		$$ SELECT CASE WHEN event->'job'->'payload'->>'name' = 'skipped' THEN '{"action": "skip"}'::jsonb END $$;
	SELECT backfill.register_hook(e, 'see(jsonb)', 'later') FROM unnest(ARRAY['job_start', 'job_complete', 'job_fail', 'job_permanently_fail']) e;
	SELECT backfill.register_hook('before_job_run', 'skip(jsonb)', 'later');
});
$id = enqueue('later', '{"name": "hooked"}');
has_ended($id, 'hooked', "worker 1 of 3, 1 of $id, 3 of $id");
$id = enqueue('later', '{"name": "skipped"}');
has_ended($id, 'skipped', '');
$id = enqueue('later', q{{"name": "bad", "sql": "SELECT 1/0"}});
has_ended($id, 'bad', 'worker 1 of 3', 'dead: permanent error 22012: division by zero');
is($node->safe_psql('postgres', q{SELECT string_agg(job || ' ' || event, ', ' ORDER BY id) FROM seen}),
	'hooked job_start, hooked job_complete, skipped job_start, skipped job_complete, bad job_start, bad job_fail, bad job_permanently_fail',
	'hooks are called');
$node->safe_psql('postgres', 'TRUNCATE ran; DELETE FROM backfill.hook');

# --- Handlers that are gone, or may not be called.

$node->safe_psql('postgres', 'REVOKE EXECUTE ON PROCEDURE act(jsonb) FROM PUBLIC');
$id = enqueue('act', '{"name": "forbidden"}');
has_ended($id, 'forbidden', '', 'dead: permanent error 42501: role "worker" may not execute handler public.act(jsonb) of task "act"');
$node->safe_psql('postgres', 'GRANT EXECUTE ON PROCEDURE act(jsonb) TO PUBLIC; ALTER PROCEDURE act(jsonb) RENAME TO acts');
$id = enqueue('act', '{"name": "missing"}');
has_ended($id, 'missing', '', 'dead: permanent error 42883: handler public.act(jsonb) of task "act" does not exist');
$node->safe_psql('postgres', 'ALTER PROCEDURE acts(jsonb) RENAME TO act');

# --- While it runs.

sub hang
{
	my ($name, $more) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $job = enqueue('act', qq[{"name": "$name", "sleep": true}], $more);
	return ($job, hangs($job, "$name: the job hangs"));
}

# An assertion: the job sleeps, so that what it does before is done. Returns its executor's pid, which is not $old_pid.
sub hangs
{
	my ($job, $name, $old_pid) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until($node, 'postgres', qq{SELECT count(*) FROM backfill.workers w JOIN pg_stat_activity a USING (pid)
		WHERE w.job_id = $job AND a.wait_event = 'PgSleep' AND pid <> } . ($old_pid // 0), $name, 1);
	return $node->safe_psql('postgres', "SELECT pid FROM backfill.workers WHERE job_id = $job");
}

my $pid;
($id, $pid) = hang('watched', ", job_key => 'key'");
is($node->safe_psql('postgres', "SELECT state, worker, attempts, lease_expires_at FROM backfill.jobs WHERE id = $id"),
	"running|executor $pid|0|", 'a procedure that runs is running to other sessions');
is($node->safe_psql('postgres', "SELECT query FROM pg_stat_activity WHERE pid = $pid"), "job $id: act", 'the activity line says so');
is( $node->safe_psql('postgres', qq{SELECT (SELECT count(*) FROM backfill.reschedule_jobs('{$id}', priority => 1)), (SELECT count(*) FROM backfill.complete_jobs('{$id}')),
		(SELECT count(*) FROM backfill.fail_jobs('{$id}')), backfill.release_stale_job_locks()}),
	'0|0|0|0', 'what acts on waiting jobs passes over it');
my $newer = enqueue('note', '{"name": "watched", "note": "newer"}', ", job_key => 'key'");
isnt($newer, $id, 'the key of a running procedure can be enqueued again');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
has_ended($newer, 'watched', 'worker 1 of 3, newer');
is($node->safe_psql('postgres', "SELECT count(*) FROM backfill.jobs WHERE id = $id"), 0, 'a running procedure whose key has a newer job is not retried');

# --- A procedure does not share a batch, and a second executor is not started for one job.

$node->safe_psql('postgres', 'ALTER SYSTEM SET backfill.max_executors = 4');
$node->reload;
wait_until($node, 'postgres', 'SHOW backfill.max_executors', 'more executors may start', 4);
($id, $pid) = hang('alone');
enqueue('note', '{"name": "beside it", "note": "ran"}');
wait_until($node, 'postgres', q{SELECT count(*) FROM ran WHERE name = 'beside it'}, 'another job runs beside it', 1);
is($node->safe_psql('postgres', "SELECT count(*) FROM ran WHERE name = 'beside it' AND pid = $pid"), 0, 'a job beside a procedure runs in another executor');

# --- Its executor ends: the job is released at once.

is($node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)"), 't', 'the executor is terminated');
$pid = hangs($id, 'another executor runs the procedure of a terminated one at once', $pid);
is($node->safe_psql('postgres', "SELECT state, attempts FROM backfill.jobs WHERE id = $id"), 'running|0', 'the attempt was given back');

# The server crashes: charged, and again at once.
my $position = log_position($node);
kill 'KILL', $pid;
$node->wait_for_log(qr/job $id is charged an attempt: the server crashed while it ran/, $position);
wait_until($node, 'postgres', "SELECT count(*) FROM backfill.jobs WHERE id = $id", 'its second attempt ends well', 0);
is($node->safe_psql('postgres', "SELECT string_agg(note, ', ' ORDER BY id) FROM ran WHERE name = 'alone'"),
	"worker 1 of 3, worker 1 of 3, worker 2 of 3, 1 of $id, 3 of $id", 'the procedure ran again with every effect that was committed');

# A shutdown is not the job's fault, a fast one or an immediate one.
($id, $pid) = hang('stopped');
$node->stop('fast');
$node->start;
hangs($id, 'after a fast shutdown it hangs again');
is($node->safe_psql('postgres', "SELECT attempt FROM backfill.workers WHERE job_id = $id"), 1, 'it is the same attempt');
$node->stop('immediate');
$node->start;
hangs($id, 'after an immediate one it hangs again');
is($node->safe_psql('postgres', "SELECT attempt FROM backfill.workers WHERE job_id = $id"), 1, 'nor is that one counted');
is($node->safe_psql('postgres', "SELECT backfill.cancel_job($id)"), 't', 'the procedure is cancelled');
has_ended($id, 'stopped', 'worker 1 of 3, worker 1 of 3, worker 1 of 3');

# The same job crashes the server max_attempts times.
$id = enqueue('later', q{{"name": "crashes", "sleep": true}}, ', max_attempts => 1');
$pid = hangs($id, 'a job with one attempt hangs');
kill 'KILL', $pid;
$node->wait_for_log(qr/job $id failed for good and is in the dead letter queue: the server crashed/);
has_ended($id, 'crashes', 'worker 1 of 1',
	'dead: the only attempt failed: the server crashed while it ran: its executor was killed (signal 9), or left without a word');

# --- DROP EXTENSION does not wait for it.

hang('dropped');
$node->safe_psql('postgres', 'DROP EXTENSION backfill');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'backfill executor'"), 0, 'DROP EXTENSION ends it');

$node->stop;
check_log($node, crashes => 1);
done_testing();

# A job that sleeps for an hour ends within a second, whatever ends it: pg_cancel_backend(),
# cancel_job(), its time limit, pg_terminate_backend(), a fast shutdown. Each has its own outcome, both
# with a function and with a procedure. poll_interval is one hour: nothing waits for a look at the clock.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('cancel', conf => "backfill.poll_interval = '1h'\nbackfill.max_executors = 2\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE ran (name text, note text, pid int DEFAULT pg_backend_pid());
	CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO ran (name, note) VALUES (payload->>'name', 'ran') $$;
	CREATE FUNCTION dawdle(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO ran (name, note) VALUES (payload->>'name', 'begun');
		PERFORM pg_sleep(3600);
	END $$;
	CREATE PROCEDURE dawdle_and_commit(payload jsonb) LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO ran (name, note) VALUES (payload->>'name', 'begun');
		COMMIT;
		INSERT INTO ran (name, note) VALUES (payload->>'name', 'second part');
		PERFORM pg_sleep(3600);
	END $$;
	-- Goes on after the first cancel.
	CREATE FUNCTION stubborn(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		BEGIN
			PERFORM pg_sleep(3600);
		EXCEPTION WHEN query_canceled THEN
			INSERT INTO ran (name, note) VALUES (payload->>'name', 'caught');
		END;
		IF payload ? 'again' THEN PERFORM pg_sleep(3600); END IF;
	END $$;
	CREATE FUNCTION deaf(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		LOOP
			BEGIN
				PERFORM pg_sleep(3600);
			EXCEPTION WHEN query_canceled THEN
				NULL;
			END;
		END LOOP;
	END $$;
	SELECT backfill.set_retry_policy('tomorrow', 3, '1 day', '1 day', 1, 0);
	SELECT backfill.register_task('note', 'note(jsonb)');
	SELECT backfill.register_task('function', 'dawdle(jsonb)', retry_policy => 'tomorrow');
	SELECT backfill.register_task('procedure', 'dawdle_and_commit(jsonb)', retry_policy => 'tomorrow');
	SELECT backfill.register_task('stubborn', 'stubborn(jsonb)', retry_policy => 'tomorrow');
	SELECT backfill.register_task('deaf', 'deaf(jsonb)', retry_policy => 'tomorrow', keep_history => '1 day');
});

# Enqueues a job that will hang, and waits until it sleeps. Returns its id and its executor's pid.
sub hang
{
	my ($task, $name, $more) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $id = $node->safe_psql('postgres',
		"SELECT backfill.enqueue('$task', jsonb_build_object('name', '$name')" . ($more // '') . ')');
	return ($id, hangs($id, "$name: the job hangs"));
}

# An assertion: the job sleeps, so that what it does before is done. Returns its executor's pid, which is not $old_pid.
sub hangs
{
	my ($id, $name, $old_pid) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until($node, 'postgres', qq{SELECT count(*) FROM backfill.workers w JOIN pg_stat_activity a USING (pid)
		WHERE w.job_id = $id AND a.wait_event = 'PgSleep' AND pid <> } . ($old_pid // 0), $name, 1);
	return $node->safe_psql('postgres', "SELECT pid FROM backfill.workers WHERE job_id = $id");
}

# An assertion: what is left of a job and of its effects.
sub is_left
{
	my ($id, $name, $state, $effects) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until($node, 'postgres',
		"SELECT coalesce((SELECT state || ' ' || attempts FROM backfill.jobs WHERE id = $id), 'gone')",
		"$name: $state", $state);
	is($node->safe_psql('postgres', "SELECT string_agg(note, ', ' ORDER BY ctid) FROM ran WHERE name = '$name'"),
		$effects, "$name: its effects");
	return;
}

sub last_error
{
	my ($id) = @_;
	return $node->safe_psql('postgres',
		"SELECT last_error->>'sqlstate' || ' ' || (last_error->>'message') FROM backfill.jobs WHERE id = $id");
}

my %kept = (function => '', procedure => 'begun');

for my $task ('function', 'procedure')
{
	my $effects = $kept{$task};

	# --- pg_cancel_backend(): an attempt, and a retry by policy.
	my $name = "$task, pg_cancel_backend";
	my ($id, $pid) = hang($task, $name);
	# Another may have come for it in vain, on a busy machine.
	is($node->safe_psql('postgres', q{SELECT count(*) FROM backfill.workers WHERE kind = 'executor' AND (job_id IS NOT NULL OR jobs_done + jobs_failed > 0)}),
		1, "$name: one job takes one executor") if $task eq 'function';
	is($node->safe_psql('postgres', "SELECT state, worker FROM backfill.jobs WHERE id = $id"),
		"running|executor $pid", "$name: it is running");
	$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
	is_left($id, $name, 'scheduled 1', $effects);
	is(last_error($id), '57014 canceling statement due to user request', "$name: its error");

	# --- A time limit, the task's and the job's own: the same. It may strike before we could see the job hang.
	$name = "$task, time limit";
	$id = $node->safe_psql('postgres', "SELECT backfill.enqueue('$task', jsonb_build_object('name', '$name'), timeout => '500 ms')");
	is_left($id, $name, 'scheduled 1', $effects);
	is(last_error($id), '57014 job ran longer than its timeout, 500 ms', "$name: its error");

	# --- cancel_job(): gone.
	my $position = log_position($node);
	$name = "$task, cancel_job";
	($id, $pid) = hang($task, $name);
	is($node->safe_psql('postgres', "SELECT backfill.cancel_job($id)"), 't', "$name: it is told");
	is_left($id, $name, 'gone', $effects);
	is($node->safe_psql('postgres', 'SELECT total_jobs FROM backfill.dlq_stats()'), 0, "$name: it is no dead letter");
	is(scalar(log_lines($node, qr/ LOG:  job $id was cancelled while it ran/, $position)), 1, "$name: the log says so");
	is($node->safe_psql('postgres', "SELECT backfill.cancel_job($id)"), 'f', "$name: not twice");
	is(join(',', grep { $_ eq $pid } worker_pids($node, 'executor')), $pid, "$name: its executor lives");

	# --- The same by a transaction that is rolled back: it has been told all the same.
	$name = "$task, cancel_job rolled back";
	($id, $pid) = hang($task, $name);
	$node->safe_psql('postgres', "BEGIN; SELECT backfill.cancel_job($id); ROLLBACK");
	is_left($id, $name, 'gone', $effects);

	# --- pg_terminate_backend(): ready again, at no cost. It is running again at once.
	$name = "$task, pg_terminate_backend";
	($id, $pid) = hang($task, $name);
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	hangs($id, "$name: another runs it", $pid);
	is_left($id, $name, 'running 0', $task eq 'function' ? '' : 'begun, begun');
	$node->safe_psql('postgres', "SELECT backfill.cancel_job($id)");
	is_left($id, $name, 'gone', $task eq 'function' ? '' : 'begun, begun');

	# --- cancel_job(), and the executor dies before it can act: SIGSTOP keeps it from that.
	$name = "$task, cancel_job and death";
	($id, $pid) = hang($task, $name);
	kill 'STOP', $pid;
	is($node->safe_psql('postgres', "SELECT backfill.cancel_job($id)"), 't', "$name: it is told");
	is($node->safe_psql('postgres', "SELECT state FROM backfill.jobs WHERE id = $id"), 'running', "$name: it runs still");
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	kill 'CONT', $pid;
	is_left($id, $name, 'gone', $effects);

	# --- Handed-over places: the queue of a cancelled job goes on.
	$name = "$task, serial queue";
	$node->safe_psql('postgres', q{SELECT backfill.set_queue('one', concurrency => 1)});
	($id, $pid) = hang($task, $name, ", queue_name => 'one'");
	$node->safe_psql('postgres', qq{SELECT backfill.enqueue('note', '{"name": "behind $name"}', queue_name => 'one')});
	is($node->safe_psql('postgres', q{SELECT running, ready FROM backfill.queues WHERE queue_name = 'one'}),
		'1|1', "$name: one at a time");
	$node->safe_psql('postgres', "SELECT backfill.cancel_job($id)");
	wait_until($node, 'postgres', "SELECT count(*) FROM ran WHERE name = 'behind $name'", "$name: the next one runs", 1);
}

# --- The neighbours in its batch are not harmed.

$node->safe_psql('postgres', q{SELECT backfill.enqueue_jobs(
	'[{"task_identifier": "note", "payload": {"name": "before"}},
	  {"task_identifier": "function", "payload": {"name": "between"}},
	  {"task_identifier": "note", "payload": {"name": "behind"}}]')});
wait_until($node, 'postgres', q{SELECT count(*) FROM backfill.workers w JOIN pg_stat_activity a USING (pid)
	WHERE task_identifier = 'function' AND a.wait_event = 'PgSleep'}, 'a job hangs among others', 1);
is($node->safe_psql('postgres', q{SELECT backfill.cancel_job(job_id) FROM backfill.workers WHERE task_identifier = 'function'}),
	't', 'the job among others is cancelled');
wait_until($node, 'postgres', q{SELECT string_agg(name, ' ' ORDER BY name) FROM ran WHERE name IN ('before', 'between', 'behind')},
	'the others have run', 'before behind');

# --- Handlers that catch the cancel.

my $pid;
my $id = $node->safe_psql('postgres', q{SELECT backfill.enqueue('stubborn', '{"name": "caught once"}', timeout => '300 ms')});
is_left($id, 'caught once', 'scheduled 1', '');
is(last_error($id), '57014 job ran longer than its timeout, 300 ms', 'a handler that catches the cancel has timed out');
$id = $node->safe_psql('postgres', q{SELECT backfill.enqueue('stubborn', '{"name": "and goes on", "again": 1}', timeout => '300 ms')});
is_left($id, 'and goes on', 'scheduled 1', '');
is(last_error($id), '57014 job ran longer than its timeout, 300 ms', 'a handler that catches the cancel and goes on has timed out');
my $log_position = log_position($node);
$id = $node->safe_psql('postgres', q{SELECT backfill.enqueue('deaf', '{"name": "overrun"}', timeout => '300 ms')});
is_left($id, 'overrun', 'scheduled 1', '');
is(last_error($id), 'JB006 it ran on after its timeout and caught every cancel, so its process was ended', 'a handler that catches all cancels is ended with its executor, and charged');
is(scalar(log_lines($node, qr/WARNING:  job $id is charged an attempt: it ran on after its timeout/, $log_position)), 1, 'the log says so');
($id, $pid) = hang('stubborn', 'caught a cancel');
$node->safe_psql('postgres', "SELECT backfill.cancel_job($id)");
is_left($id, 'caught a cancel', 'gone', '');
($id, $pid) = hang('deaf', 'deaf');
is($node->safe_psql('postgres', "SELECT backfill.cancel_job($id)"), 't', 'a handler that ignores cancels is told');
wait_until($node, 'postgres', "SELECT backfill.cancel_job($id) IS NOT NULL AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)",
	'a handler that ignores cancels is told again and again, which ends its executor');
is_left($id, 'deaf', 'gone', '');
is($node->safe_psql('postgres', "SELECT outcome FROM backfill.history WHERE id = $id"), 'cancelled', 'the job whose executor a cancel ended counts as cancelled');

# --- A fast shutdown: within a second, and the attempt is given back.

$node->safe_psql('postgres', q{SELECT backfill.cancel_job(id) FROM backfill.jobs});
my ($function) = hang('function', 'function, shutdown');
my ($procedure) = hang('procedure', 'procedure, shutdown');
my $position = log_position($node);
$node->stop('fast');
is(scalar(log_lines($node, qr/ 57P01 FATAL:  terminating background worker "backfill executor"/, $position)), 2, 'a fast shutdown ends both');
$node->start;
wait_until($node, 'postgres', q{SELECT count(*) FROM backfill.workers w JOIN pg_stat_activity a USING (pid) WHERE a.wait_event = 'PgSleep'},
	'both run again at once', 2);
is($node->safe_psql('postgres', "SELECT string_agg(state || ' ' || attempts, ', ') FROM backfill.jobs"), 'running 0, running 0', 'jobs that a fast shutdown ends are not charged');
is($node->safe_psql('postgres', "SELECT count(backfill.cancel_job(id)) FROM backfill.jobs"), 2, 'jobs that a fast shutdown ended can be cancelled');
wait_until($node, 'postgres', 'SELECT count(*) FROM backfill.jobs', 'and gone', 0);

# A producer whose transaction is open has enqueued the key of the running job: cancel_job() waits for it
# as little as the producer waits for the job, and the job ends as cancelled.
for my $end ('COMMIT', 'ROLLBACK')
{
	my ($id) = hang('function', "key $end", ", job_key => 'shared'");
	my $producer = $node->background_psql('postgres');
	$producer->query_safe(q{BEGIN; SELECT backfill.enqueue('note', '{"name": "shared"}', job_key => 'shared')});
	is($node->safe_psql('postgres', "SET lock_timeout = '10s'; SELECT backfill.cancel_job($id)"), 't', "$end: cancel_job() does not wait for a producer of the job's key");
	is_left($id, "key $end", 'gone', '');
	$producer->query_safe($end);
	$producer->quit;
}
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM ran WHERE name = 'shared'}, 'the job of the producer that committed runs');
$node->safe_psql('postgres', 'SELECT backfill.startup_cleanup()');
is($node->safe_psql('postgres', 'SELECT count(*) FROM backfill.no_retry'), 0, 'nothing is left of their notes');

is(scalar(log_lines($node, qr/ attempt 0 of /, 0)), 0, 'the log counts attempts from 1');

$node->stop;
check_log($node);
done_testing();

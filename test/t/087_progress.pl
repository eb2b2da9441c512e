# Progress of a running job, as others see it; waiting for the end of a job; the history of jobs
# that executors run, and its retention.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('progress', conf => "backfill.poll_interval = '50ms'\nbackfill.max_executors = 2\nmax_prepared_transactions = 5\n");
create_extension($node);
$node->safe_psql('postgres', q{
	CREATE FUNCTION step(payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM backfill.set_progress(0.25, payload->>'message');
		PERFORM pg_advisory_xact_lock_shared(1);
		PERFORM backfill.set_progress(0.75);
		PERFORM pg_advisory_xact_lock_shared(2);
		IF payload ? 'fail' THEN RAISE 'no luck'; END IF;
		RETURN payload->'message';
	END $$;
	SELECT backfill.set_retry_policy('quick', 3, '1 ms', '1 ms', 1, 0);
	SELECT backfill.register_task('step', 'step(jsonb)', keep_history => '1 day', retry_policy => 'quick'),
	       backfill.register_task('plain', 'step(jsonb)', retry_policy => 'quick'), backfill.register_task('external')});
my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(1), pg_advisory_lock(2)');

# --- Progress.

# 254 bytes and a character of three: the message is cut before it.
my $long = 'x' x 254;
my $id = $node->safe_psql('postgres', qq{SELECT backfill.enqueue('step', jsonb_build_object('message', '$long' || chr(8364) || 'rest'))});
wait_until($node, 'postgres', "SELECT progress = 0.25 AND progress_message = '$long' FROM backfill.jobs WHERE id = $id", 'a running job says how far it is; a long message is cut between characters');
is($node->safe_psql('postgres', "SELECT job_id, task_identifier, attempt, progress, state_since <= now() FROM backfill.workers WHERE job_id = $id"),
	"$id|step|1|0.25|t", 'the view workers has it, too');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
wait_until($node, 'postgres', "SELECT progress = 0.75 AND progress_message IS NULL FROM backfill.jobs WHERE id = $id", 'a job without a message keeps its progress');
my $waiting = $node->safe_psql('postgres', q{SELECT backfill.enqueue('external')});
is($node->safe_psql('postgres', "SELECT count(*) FROM backfill.jobs WHERE id = $waiting AND progress IS NULL"), 1, 'a job that waits has none');

# --- Waiting for its end.

my $waiter = $node->background_psql('postgres');
my $waiter_pid = $waiter->query_safe('SELECT pg_backend_pid()');
$waiter->query_until(qr/started/, "\\echo started\nCALL backfill.await_job($id, '1 hour');\n");
wait_until($node, 'postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $waiter_pid AND wait_event = 'Extension' AND backend_xmin IS NULL AND backend_xid IS NULL",
	'a session waits and holds no snapshot');
$gate->query_safe('SELECT pg_advisory_unlock(2)');
like($waiter->query_safe('SELECT 1'), qr/^completed\|"x+\x{20ac}rest"$|^completed\|"x+\xe2\x82\xacrest"$/m, 'the session that waits wakes with the outcome and the result');
wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM backfill.workers WHERE progress IS NOT NULL OR progress_message IS NOT NULL}, 'nothing runs, no worker has any progress');
is($node->safe_psql('postgres', "SELECT worker ~ '^executor [0-9]+\$', attempts, outcome FROM backfill.history WHERE id = $id"), 't|1|completed', 'the history names the executor that ran it');

# Woken, not polling: each wait would else take seconds. In one session, because starting one takes
# seconds, too, on a busy machine.
my ($code, $out, $err) = finish_psql(start_psql($node, 'postgres', "SELECT clock_timestamp() AS began \\gset\n" . join('', map { qq{
	SELECT backfill.enqueue('$_', '{"message": 1}', run_at => now() + interval '50 ms') AS id \\gset
	CALL backfill.await_job(:id, '1 hour');} } ('step', 'plain') x 10) . "\nSELECT extract(epoch FROM clock_timestamp() - :'began');\n"));
my @waits = split /\n/, $out;
my $lasted = pop @waits;
# Without a history nothing is known of a job that has ended before the session came to wait.
like($waits[$_], $_ % 2 ? qr/^(?:completed|gone)\|$/ : qr/^completed\|1$/, "await_job() of a job that starts and ends meanwhile, number $_") for 0 .. 19;
cmp_ok($lasted, '<', 50, 'each was woken') or diag $err;

# However it ends; without a history, too. The job that fails is held until the session waits, because nothing would be known of it after that.
for my $case (
	[ 'dead', q{SELECT backfill.enqueue('plain', '{"fail": 1}')}, '' ],
	[ 'cancelled', q{SELECT backfill.enqueue('plain', run_at => 'tomorrow')}, 'SELECT backfill.cancel_job(%d)' ],
	[ 'dead', q{SELECT backfill.enqueue('plain', run_at => 'tomorrow')}, q{SELECT count(*) FROM backfill.fail_jobs(ARRAY[%d]::bigint[])} ],
	[ 'completed', q{SELECT backfill.enqueue('external')}, q{BEGIN; SELECT backfill.complete_jobs(ARRAY[id], claim_token) FROM backfill.claim_jobs('consumer', max_jobs => 10); COMMIT} ],
	[ 'completed', q{SELECT backfill.enqueue('plain', run_at => 'tomorrow')}, q{BEGIN; SAVEPOINT s; SELECT backfill.cancel_job(%d); ROLLBACK TO s; SELECT count(*) FROM backfill.reschedule_jobs(ARRAY[%d]::bigint[], now()); COMMIT} ],
	[ 'gone', q{SELECT backfill.enqueue('plain', run_at => 'tomorrow')}, q{DELETE FROM backfill.job WHERE id = %d} ])
{
	my ($outcome, $enqueue, $end) = @$case;
	$gate->query_safe('SELECT pg_advisory_lock(1)') if $end eq '';
	$id = $node->safe_psql('postgres', $enqueue);
	$waiter->query_until(qr/started/, "\\echo started\nCALL backfill.await_job($id, '1 hour');\n");
	wait_until($node, 'postgres', "SELECT NOT EXISTS (SELECT FROM backfill.job WHERE id = $id) OR EXISTS (SELECT FROM pg_stat_activity WHERE pid = $waiter_pid AND wait_event = 'Extension')", 'a session waits');
	$end eq '' ? $gate->query_safe('SELECT pg_advisory_unlock(1)') : $node->safe_psql('postgres', $end =~ s/%d/$id/gr);
	like($waiter->query_safe('SELECT 1'), qr/^$outcome\|$/m, "$outcome" . ($end =~ /ROLLBACK/ ? ', after a cancel that was rolled back' : ''));
}
is($node->safe_psql('postgres', "CALL backfill.await_job($id)"), 'gone|', 'await_job() of a job that has ended without a history says gone');

# A transaction that enqueues the job and is still open is waited for, too.
my $enqueuer = $node->background_psql('postgres');
for my $end ('COMMIT', ('ROLLBACK', 'ROLLBACK TO s') x 2)
{
	$id = $enqueuer->query_safe(q{BEGIN; SAVEPOINT s; SELECT backfill.enqueue('plain')});
	is($node->safe_psql('postgres', "CALL backfill.await_job($id, '1 ms')"), 'timeout|', "a job that is not committed has not ended, before the $end");
	$waiter->query_until(qr/started/, "\\echo started\nCALL backfill.await_job($id, '1 hour');\n");
	wait_until($node, 'postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $waiter_pid AND wait_event = 'Extension'", 'a session waits for it');
	$enqueuer->query_safe($end);
	my $outcome = $end eq 'COMMIT' ? 'completed' : 'gone';
	like($waiter->query_safe('SELECT 1'), qr/^$outcome\|$/m, "after the $end it is $outcome");
	$enqueuer->query_safe('ROLLBACK') if $end eq 'ROLLBACK TO s';
}
$enqueuer->quit;

# A session that is ended while it waits leaves its place.
for my $try (1 .. 3)
{
	my $lost = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $lost->query_safe('SELECT pg_backend_pid()');
	$id = $node->safe_psql('postgres', q{SELECT backfill.enqueue('plain', run_at => 'tomorrow')});
	$lost->query_until(qr/started/, "\\echo started\nCALL backfill.await_job($id, '1 hour');\n");
	wait_until($node, 'postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $pid AND wait_event = 'Extension'", 'a session waits');
	$node->safe_psql('postgres', $try < 3 ? "SELECT pg_terminate_backend($pid)" : "SELECT pg_cancel_backend($pid)");
	wait_until($node, 'postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid AND wait_event = 'Extension'", 'await_job() is interrupted');
	$try < 3 ? eval { $lost->quit } : $lost->quit;
	$node->safe_psql('postgres', "SELECT backfill.cancel_job($id)");
}

# --- History: a failed attempt and its error; a job that a crash interrupts leaves nothing.

$id = $node->safe_psql('postgres', q{SELECT backfill.enqueue('step', '{"fail": 1}')});
is($node->safe_psql('postgres', "CALL backfill.await_job($id, '1 hour')"), 'dead|', 'a job fails three times');
is($node->safe_psql('postgres', "SELECT attempts, error->>'message', jsonb_array_length(earlier_errors), earlier_errors->1->>'attempt' FROM backfill.history WHERE id = $id"),
	'3|no luck|2|2', 'each failure is kept');
$gate->query_safe('SELECT pg_advisory_lock(1)');
$id = $node->safe_psql('postgres', q{SELECT backfill.enqueue('step', '{"message": "survives"}')});
$node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . running_executor($node, 'postgres') . ')');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
is($node->safe_psql('postgres', "CALL backfill.await_job($id, '1 hour')"), 'completed|"survives"', 'an executor dies, another runs the job');
is($node->safe_psql('postgres', "SELECT outcome, attempts, earlier_errors FROM backfill.history WHERE id = $id"), 'completed|1|', 'the history of a job whose executor died has the run that ended only');

# A job whose end cannot be recorded is set aside, and tried again later.
$node->safe_psql('postgres', q{ALTER TABLE backfill.dead_letter ADD CONSTRAINT full_disk CHECK (false) NOT VALID});
$id = $node->safe_psql('postgres', q{SELECT backfill.enqueue('plain', '{"fail": 1}', max_attempts => 1)});
wait_until($node, 'postgres', "SELECT backfill.why_not_running($id)", 'it is set aside', qr/^set_aside: .*full_disk/);
is($node->safe_psql('postgres', "SELECT count(*) FROM backfill.jobs WHERE id = $id"), 1, 'a job with two rows is one job in the view');
$node->safe_psql('postgres', 'ALTER TABLE backfill.dead_letter DROP CONSTRAINT full_disk');
wait_until($node, 'postgres', "SELECT count(*) FROM backfill.dlq WHERE original_job_id = $id", 'and in the end its end is recorded', 1);

# Retention, also of more than the dispatcher deletes at once.
my $kept = $node->safe_psql('postgres', 'SELECT count(*) FROM backfill.job_history');
cmp_ok($kept, '>', 10, 'the jobs have a history');
$node->safe_psql('postgres', q{INSERT INTO backfill.job_history (job_id, finished_at, keep_until, created_at, priority, attempt, max_attempts, outcome, task_identifier)
	SELECT -i, now(), now() - interval '1 s', now(), 0, 1, 1, 'completed', 'old' FROM generate_series(1, 12000) i});
wait_until($node, 'postgres', "SELECT count(*) = $kept FROM backfill.job_history", 'what is over is deleted, the rest stays');

$waiter->quit;
$gate->quit;
$node->stop;
check_log($node);
done_testing();

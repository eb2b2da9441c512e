# What the dispatcher does by itself: dead letters that are too old go, jobs without attempts
# become dead letters. And the hooks of workers, which only a real worker calls.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('keeper',
	conf => "backfill.dlq_processor_interval = '1s'\nbackfill.dlq_retention = '1h'\nbackfill.executor_idle_timeout = '1s'\n"
	  . "backfill.poll_interval = '100ms'\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE event (n bigint GENERATED ALWAYS AS IDENTITY, event text, pid int, own_pid int DEFAULT pg_backend_pid(), task text, role text DEFAULT current_user);
	CREATE ROLE watcher; GRANT INSERT ON event TO watcher;
	CREATE FUNCTION watch(event jsonb) RETURNS void LANGUAGE sql AS $$
		INSERT INTO event (event, pid, task) VALUES (event->>'event', (event->>'pid')::int, event->'job'->>'task_identifier')
	$$;
	CREATE FUNCTION run(payload jsonb) RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION fail(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'data_exception'; END $$;
	SELECT backfill.register_task('run', 'run(jsonb)'), backfill.register_task('fail', 'fail(jsonb)');
});

# --- Retention.

$node->safe_psql(
	'postgres', q{
	INSERT INTO backfill.dead_letter (original_job_id, task_identifier, payload, priority, max_attempts, failure_reason, failure_count,
	                                  original_created_at, original_run_at, failed_at)
	SELECT i, 'kept', '{}', 0, 1, 'because', 1, '2020-01-01', '2020-01-01', now() - i * interval '25 minutes' FROM generate_series(1, 4) i
});
wait_until($node, 'postgres', 'SELECT count(*) = 2 FROM backfill.dlq', 'the dispatcher deletes dead letters that are older than backfill.dlq_retention');
is($node->safe_psql('postgres', q{SELECT string_agg(original_job_id::text, ',' ORDER BY original_job_id) FROM backfill.dlq}), '1,2', 'the dispatcher keeps younger dead letters');
$node->append_conf('postgresql.conf', "backfill.dlq_retention = 0\n");
$node->reload;
$node->poll_query_until('postgres', q{SELECT current_setting('backfill.dlq_retention') = '0'}) or die;
# The job is a fence: when it has become a letter, the dispatcher has been round once more.
$node->safe_psql('postgres', q{
	UPDATE backfill.dead_letter SET failed_at = '2000-01-01';
	SELECT backfill.enqueue('run', job_key => 'used up', run_at => now() + interval '1 day');
	UPDATE backfill.job SET attempts = max_attempts WHERE job_key = 'used up';
});
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM backfill.dlq WHERE job_key = 'used up'}, 'a job without attempts left becomes a dead letter');
is($node->safe_psql('postgres', q{SELECT failure_reason, failure_count FROM backfill.dlq WHERE job_key = 'used up'}), 'no attempts left|8', 'the dead letter says that no attempts were left');
is($node->safe_psql('postgres', q{SELECT count(*) FROM backfill.dlq WHERE task_identifier = 'kept'}), 2, 'retention 0 keeps letters for ever');

# --- No session waits for housekeeping that waits for another one's open transaction.

my $admin = $node->background_psql('postgres');
$admin->query_safe('BEGIN');
$admin->query_safe(q{SELECT count(backfill.update_dlq_job(id, notes => 'in my hands')) FROM backfill.dlq});
$node->append_conf('postgresql.conf', "backfill.dlq_retention = '1h'\n");
$node->reload;
$node->safe_psql('postgres', q{
	SELECT backfill.enqueue('run', job_key => 'used up', run_at => now() + interval '1 day');
	UPDATE backfill.job SET attempts = max_attempts WHERE job_key = 'used up'});
my $before = log_position($node);
$node->wait_for_log(qr/could not make a dead letter of job \d+: canceling statement due to lock timeout/, $before);
$node->safe_psql('postgres', q{SELECT backfill.enqueue('run', run_at => clock_timestamp() + interval '1500 ms')});
wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM backfill.job WHERE job_key IS NULL}, 'jobs run when they are due, also while dead letters are locked');
is($node->safe_psql('postgres', q{SELECT count(*) FROM backfill.job WHERE job_key = 'used up'}), 1, 'the job without attempts waits');
$admin->query_safe('COMMIT');
$admin->quit;
wait_until($node, 'postgres', q{SELECT count(*) = 1 AND min(failure_count) = 16 FROM backfill.dlq}, 'when the transaction is over, all is cleaned up');

# --- Hooks of workers.

wait_for_workers($node, 'executor', undef, 0, 'no executor is left');
$node->safe_psql('postgres', q{SELECT backfill.register_hook(e, 'watch(jsonb)', run_as => 'watcher')
	FROM unnest('{worker_start,worker_shutdown,job_start,job_complete,job_fail,job_permanently_fail}'::text[]) e});
$node->safe_psql('postgres', q{SELECT backfill.enqueue('run')});
# On a busy machine a second executor may have come for the same job, in vain.
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM event e WHERE event = 'worker_shutdown'
	AND EXISTS (SELECT FROM event j WHERE j.event = 'job_complete' AND j.own_pid = e.own_pid)}, 'an executor starts, runs a job and ends for want of work');
is( $node->safe_psql('postgres', q{SELECT event, task, pid = own_pid, count(*) OVER (PARTITION BY own_pid) FROM event
		WHERE own_pid = (SELECT own_pid FROM event WHERE event = 'job_complete') ORDER BY n}),
	"worker_start||t|4\njob_start|run|t|4\njob_complete|run|t|4\nworker_shutdown||t|4", 'the executor\'s hooks have been called in this order, in that process');
is($node->safe_psql('postgres', q{SELECT DISTINCT role FROM event}), 'watcher', 'the executor\'s hooks ran as the role that they were registered for');
wait_for_workers($node, 'executor', undef, 0, 'no executor is left again');
$node->safe_psql('postgres', q{TRUNCATE event; SELECT backfill.enqueue('fail')});
wait_until($node, 'postgres', q{SELECT count(*) > 0 FROM event WHERE event = 'job_permanently_fail'}, 'another executor runs a job that fails for good');
is($node->safe_psql('postgres', q{SELECT event, task FROM event WHERE task IS NOT NULL ORDER BY n}),
	"job_start|fail\njob_fail|fail\njob_permanently_fail|fail", 'the failure reaches its hooks, and they are kept though the handler was rolled back');

wait_for_workers($node, 'executor', undef, 0, 'executors whose job has failed end, too');

# A hook of workers that fails ends no worker.
$node->safe_psql('postgres', q{
	CREATE OR REPLACE FUNCTION watch(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken hook'; END $$;
	TRUNCATE event;
});
my $position = log_position($node);
$node->safe_psql('postgres', q{SELECT backfill.enqueue('run')});
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'with hooks that all fail, jobs run');
wait_for_workers($node, 'executor', undef, 0, 'executors with hooks that all fail end in order');
cmp_ok(scalar(log_lines($node, qr/WARNING: .* hook .*watch\(jsonb\) failed: broken hook/, $position)), '>=', 4, 'each failure is a warning in the log');
is(scalar(log_lines($node, qr/ (ERROR|FATAL): /, $position)), 0, 'failing hooks raise no further warning');

$node->stop;
check_log($node);
done_testing();

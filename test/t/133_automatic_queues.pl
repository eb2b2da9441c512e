# A queue that producers made serial goes away when it is empty, and only then: whatever happens at
# that moment, its jobs never run at once.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded(
	'automatic',
	conf => q{
backfill.max_executors = 4
backfill.dlq_processor_interval = 1
backfill.poll_interval = 1000
max_prepared_transactions = 2
});
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE run (queue text, began timestamptz, ended timestamptz);
	CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE began timestamptz := clock_timestamp();
	BEGIN
		IF payload ? 'fail' THEN RAISE 'fails'; END IF;
		PERFORM pg_sleep(0.002);
		INSERT INTO run VALUES (payload ->> 'queue', began, clock_timestamp());
	END $$;
	SELECT backfill.register_task('note', 'note(jsonb)'), backfill.register_task('out');
});
my $rows = q{SELECT count(*) FROM backfill.queue};
my $gone = q{SELECT count(*) = 0 FROM backfill.queue};

# More than the dispatcher looks at in one go.
$node->safe_psql('postgres', q{
	SELECT count(backfill.enqueue_serial('note', jsonb_build_object('queue', 'q' || g), 'q' || g)) FROM generate_series(1, 2500) g;
	SELECT backfill.enqueue_serial('note', '{"queue": "q7"}', 'q7');
	SELECT backfill.set_queue('configured', 1), backfill.enqueue_serial('note', '{"queue": "configured"}', 'configured')});
wait_until($node, 'postgres', $rows, 'queues that are empty go away, those that were configured stay', '1');
is($node->safe_psql('postgres', q{SELECT queue_name, automatic FROM backfill.queue}), 'configured|f', '... as it was configured');
is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT queue) FROM run}), '2502|2501', 'all jobs have run');

# What counts on a queue keeps it.
$node->safe_psql('postgres', q{
	SELECT backfill.delete_queue('configured');
	SELECT backfill.enqueue_serial('out', '1', 'waits');
	SELECT backfill.enqueue_serial('out', '1', 'scheduled');
	UPDATE backfill.job SET run_at = now() + interval '1 year' WHERE queue_name = 'scheduled';
	SELECT backfill.enqueue_serial('out', '1', 'leased');
	SELECT count(*) FROM backfill.claim_jobs('c', 1, queues => '{leased}');
	SELECT backfill.enqueue_serial('note', '{"fail": true}', 'failed');
	UPDATE backfill.job SET max_attempts = 1 WHERE queue_name = 'failed';
	SELECT backfill.enqueue_serial('note', '{"queue": "paused"}', 'paused');
	SELECT backfill.pause_queue('paused');
	DELETE FROM backfill.job WHERE queue_name = 'paused';
	BEGIN; SELECT backfill.enqueue_serial('note', '{"queue": "prepared"}', 'prepared'); PREPARE TRANSACTION 'p';
});
my $open = $node->background_psql('postgres');
$open->query_safe(q{BEGIN; SELECT backfill.enqueue_serial('note', '{"queue": "open"}', 'open')});
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM backfill.dlq WHERE queue_name = 'failed'}, 'a job of a serial queue is a dead letter');
# Each round ends with a queue that goes away.
for (1 .. 3)
{
	$node->safe_psql('postgres', q{SELECT backfill.enqueue_serial('note', '{"queue": "round"}', 'round')});
	wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM backfill.queue WHERE queue_name = 'round'}, 'a queue goes away');
}
is($node->safe_psql('postgres', q{SELECT string_agg(queue_name, ' ' ORDER BY queue_name) FROM backfill.queue}),
	'failed leased paused scheduled waits', 'a job, a lease, a dead letter and a pause keep their queues');
$open->query_safe('COMMIT');
$open->quit;
$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
wait_until($node, 'postgres', q{SELECT count(*) = 2 FROM run WHERE queue IN ('open', 'prepared')}, 'the transactions that were open enqueue into serial queues');
$node->safe_psql('postgres', q{
	SELECT backfill.complete_jobs(ARRAY[id], claim_token) FROM backfill.job WHERE queue_name = 'leased';
	SELECT backfill.resume_queue('paused');
	DELETE FROM backfill.job WHERE queue_name IN ('waits', 'scheduled');
	SELECT backfill.delete_dlq_job(id) FROM backfill.dlq});
wait_until($node, 'postgres', $gone, 'and when that is over, they go away, too');

# Producers, executors, the dispatcher and crashes at once. Queues become empty all the time.
$node->safe_psql('postgres', 'TRUNCATE run');
my $enqueued = 0;
for my $round (1 .. 3)
{
	my $producers = start_pgbench(
		$node, 'postgres', q{
\set q random(1, 20)
BEGIN;
SELECT backfill.enqueue_serial('note', jsonb_build_object('queue', 'q' || :q), 'q' || :q);
SELECT backfill.enqueue_serial('note', jsonb_build_object('queue', 'q' || :q), 'q' || :q);
COMMIT;
}, '-c', 6, '-t', 60, '-R', 150);
	is(finish_pgbench($producers), 0, "producers of serial queues that come and go get no error ($round)");
	$enqueued += 6 * 60 * 2;
	if ($round == 2)
	{
		$node->stop('immediate');
		$node->start;
	}
}
wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM backfill.job}, 'all jobs are done');
is($node->safe_psql('postgres', 'SELECT count(*) FROM run'), $enqueued, 'each once');
is($node->safe_psql('postgres', q{SELECT count(*) FROM run a JOIN run b ON a.queue = b.queue AND a.ctid < b.ctid AND a.began < b.ended AND b.began < a.ended}),
	'0', 'never two of a queue at once');
wait_until($node, 'postgres', $gone, 'no queue is left');

# Ids may be used up: those of queues that are still there are passed over.
is($node->safe_psql('postgres', q{
	SELECT setval('backfill.queue_id_seq', 2147483646);
	SELECT backfill.set_queue('last', 1), backfill.set_queue('first', 1);
	SELECT setval('backfill.queue_id_seq', 2147483646);
	SELECT backfill.set_queue('next', 1);
	SELECT string_agg(queue_name || ' ' || id, ', ' ORDER BY id) FROM backfill.queue}) =~ s/^.*\n//sr,
	'first 100, next 101, last 2147483647', 'ids of queues begin anew, and none is used twice');

check_log($node, crashes => 1);
$node->stop;
done_testing();

# Several executors drain many serial queues whose jobs take turns, and so divide the queues among
# themselves. The jobs of a queue are of several tasks, which are read one after the other: all the same
# they run in the order of the queue, none at the same time, each once.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('divided', conf => "backfill.max_executors = 0\nmax_locks_per_transaction = 256\nlog_min_messages = error\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE SEQUENCE moments;
	CREATE TABLE ran (job bigint, queue int, priority int, began bigint, ended bigint, worker int DEFAULT pg_backend_pid());
	CREATE FUNCTION work(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		began bigint := nextval('moments');
	BEGIN
		INSERT INTO ran VALUES ((SELECT id FROM backfill.current_job()), (payload->>'queue')::int, (payload->>'priority')::int, began, nextval('moments'));
	END $$;
	SELECT backfill.register_task('work ' || n, 'work(jsonb)') FROM generate_series(1, 4) n;
	INSERT INTO backfill.queue (queue_name, concurrency) SELECT 'customer ' || n, 1 FROM generate_series(0, 999) n;
	INSERT INTO backfill.queue (queue_name, concurrency) SELECT 'better ' || n, 1 FROM generate_series(1, 3) n;
	CREATE PROCEDURE enqueue_better(jobs int) LANGUAGE plpgsql AS $$
	BEGIN
		FOR n IN 1 .. jobs LOOP
			PERFORM backfill.enqueue('work 1', jsonb_build_object('queue', -1 - n % 3, 'priority', -20), queue_name => 'better ' || 1 + n % 3, priority => -20);
			COMMIT;
		END LOOP;
	END $$;
});

# This many jobs in this many serial queues, each of one of four tasks and of one of these priorities. All wait
# before the first one runs; $load{better} better ones come one by one meanwhile.
sub drain
{
	my ($name, %load) = @_;
	my $some = sprintf "(ARRAY[%s])[1 + floor(random() * %d)]", join(', ', @{ $load{priorities} }), scalar @{ $load{priorities} };
	$node->safe_psql('postgres', qq{
		TRUNCATE ran;
		SELECT count(backfill.enqueue('work ' || 1 + floor(random() * 4), jsonb_build_object('queue', n % $load{queues}, 'priority', p),
		                              queue_name => 'customer ' || n % $load{queues}, priority => p))
		  FROM generate_series(1, $load{jobs}) n, LATERAL (SELECT $some AS p WHERE n > 0) s});
	set_and_reload($node, 'backfill.max_executors', 4);
	$node->safe_psql('postgres', "CALL enqueue_better($load{better})");
	wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', "$name: all jobs have ended");
	set_and_reload($node, 'backfill.max_executors', 0);
	wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM backfill.workers WHERE kind = 'executor'}, "$name: and their executors, too");
	is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT job) FROM ran'), join('|', ($load{jobs} + $load{better}) x 2), "$name: each has run once");
	cmp_ok($node->safe_psql('postgres', 'SELECT count(DISTINCT worker) FROM ran'), '>', 1, "$name: in several executors");
	# What wrong hints hide for a while may be overtaken.
	is( $node->safe_psql('postgres', q{
		SELECT count(*) FROM (SELECT began, lag(ended) OVER (PARTITION BY queue ORDER BY priority, job) AS before FROM ran) r WHERE began < before}),
		0, "$name: the jobs of each queue ran in their order") unless $load{wrong_hints};
	is( $node->safe_psql('postgres', q{
		SELECT count(*) FROM (SELECT began, lag(ended) OVER (PARTITION BY queue ORDER BY began) AS before FROM ran) r WHERE began < before}),
		0, "$name: and never two of them at once");
	return;
}

drain('as many queues as are read ahead', jobs => 20000, queues => 1000, priorities => [0], better => 300);
drain('several priorities', jobs => 20000, queues => 300, priorities => [ -15, 0, 5 ], better => 300);
set_and_reload($node, 'backfill.hint_faults', 0.05);
drain('with wrong hints', jobs => 10000, queues => 1000, priorities => [ 0, 5 ], better => 300, wrong_hints => 1);
set_and_reload($node, 'backfill.hint_faults', 0);
drain('few queues', jobs => 5000, queues => 9, priorities => [ 0, 5 ], better => 100);
# What a batch has run comes back when it is undone, and others may have looked meanwhile.
set_and_reload($node, 'backfill.savepoint_per_job', 'off');
set_and_reload($node, 'backfill.undo_faults', 0.03);
drain('with batches undone', jobs => 20000, queues => 300, priorities => [ 0, 5 ], better => 300);
check_log($node);
done_testing();

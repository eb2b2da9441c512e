# cancel_job() in the middle of a load, thousands of times: it ends the job that it names, or comes
# too late, and never hits another. Functions in shared batches, slow ones, and procedures.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('hammer', conf => "backfill.max_executors = 4\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE job (id bigint PRIMARY KEY, cancelled boolean);
	CREATE TABLE effect (id bigint, attempt int);
	CREATE FUNCTION quick(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effect SELECT j.id, j.attempt FROM backfill.current_job() j;
		PERFORM pg_sleep(random() * 0.002);
	END $$;
	CREATE FUNCTION slow(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_sleep(random() * 0.02);
		INSERT INTO effect SELECT j.id, j.attempt FROM backfill.current_job() j;
	END $$;
	CREATE PROCEDURE two_parts(payload jsonb) LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effect SELECT j.id, j.attempt FROM backfill.current_job() j;
		COMMIT;
		PERFORM pg_sleep(random() * 0.005);
	END $$;
	SELECT backfill.register_task(t, (t || '(jsonb)')::regprocedure) FROM unnest(ARRAY['quick', 'slow', 'two_parts']) t;
	CREATE PROCEDURE cancel_some() LANGUAGE plpgsql AS $$
	DECLARE
		target bigint;
	BEGIN
		LOOP
			SELECT w.job_id INTO target FROM backfill.workers w WHERE w.job_id IS NOT NULL ORDER BY random() LIMIT 1;
			IF target IS NOT NULL THEN
				UPDATE job SET cancelled = coalesce(cancelled, false) OR backfill.cancel_job(target) WHERE id = target;
			END IF;
			COMMIT;
			EXIT WHEN (SELECT count(*) < 20 FROM backfill.job);
			PERFORM pg_sleep(0.001);
		END LOOP;
	END $$;
	INSERT INTO job SELECT backfill.enqueue((ARRAY['quick', 'slow', 'two_parts'])[i % 3 + 1]) FROM generate_series(1, 3000) i;
});
my @cancellers = map { start_psql($node, 'postgres', 'CALL cancel_some()') } 1 .. 3;
is((finish_psql($_))[0], 0, 'a canceller ends') for @cancellers;
wait_until($node, 'postgres', 'SELECT count(*) FROM backfill.job', 'all jobs end', 0);

cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM job j WHERE cancelled AND NOT EXISTS (SELECT FROM effect e WHERE e.id = j.id)'),
	'>', 50, 'many jobs were cancelled');
is($node->safe_psql('postgres', 'SELECT count(*) FROM job j WHERE NOT coalesce(cancelled, false) AND (SELECT count(*) FROM effect e WHERE e.id = j.id) <> 1'),
	0, 'every other job has run exactly once');
is($node->safe_psql('postgres', 'SELECT count(*) FROM effect WHERE attempt > 1'), 0, 'every other job has run in its first attempt: no cancel has hit it');
is($node->safe_psql('postgres', 'SELECT total_jobs FROM backfill.dlq_stats()'), 0, 'there are no dead letters');
is(scalar(log_lines($node, qr/ 57014 ERROR/)), 0, 'no cancel has hit an executor outside of a job');
is(scalar(log_lines($node, qr/ 57P01 FATAL/)), 0, 'no cancel has ended an executor');

$node->stop;
check_log($node);
done_testing();

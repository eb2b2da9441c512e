# A table of jobs that is copied while it is in use, as pg_repack does: a trigger logs what
# changes, the rows are copied, the log is applied under a lock. Producers and executors are at work
# all the time. The copy must be what the table is; without triggers that fire it would lack jobs.
# And pg_repack itself, where it is installed.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('online_copy', conf => "backfill.max_executors = 2\nbackfill.batch_time = 5\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE ran (id bigint PRIMARY KEY);
	CREATE FUNCTION run_once(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		job record := backfill.current_job();
	BEGIN
		IF job.attempt = 1 AND job.id % 5 = 0 THEN RAISE EXCEPTION 'again' USING ERRCODE = '55000'; END IF;
		INSERT INTO public.ran VALUES (job.id);
	END $$;
	SELECT backfill.set_retry_policy('at_once', 3, '0', '0', 1, 0);
	SELECT backfill.register_task('run_once', 'run_once(jsonb)', retry_policy => 'at_once', keep_history => '1 day');
	CREATE TABLE sent (id bigint);
	-- Waiting for ever: they make the copy long.
	SELECT count(*) FROM backfill.enqueue_many('run_once', (SELECT array_agg(to_jsonb(g)) FROM generate_series(1, 20000) g), run_at => '2100-01-01');
});

# Enqueues of every kind, each with its proof in the same transaction.
my $script = q{
BEGIN;
INSERT INTO sent SELECT backfill.enqueue('run_once', '1');
INSERT INTO sent SELECT backfill.enqueue('run_once', '2', run_at => '2100-01-01');
INSERT INTO sent SELECT * FROM backfill.enqueue_many('run_once', '{3,4}');
COMMIT;
};

sub under_load
{
	my ($copy) = @_;
	my $load = start_pgbench($node, 'postgres', $script, '-c', 2, '-T', 3600);
	wait_until($node, 'postgres', 'SELECT count(*) > 100 FROM ran', 'jobs run');
	$copy->();
	my $seen = $node->safe_psql('postgres', 'SELECT count(*) FROM ran');
	wait_until($node, 'postgres', "SELECT count(*) > $seen + 50 FROM ran", 'jobs run afterwards');
	$load->{run}->signal('TERM');
	finish_pgbench($load);
	wait_until($node, 'postgres',
		q{SELECT NOT EXISTS (SELECT FROM backfill.job WHERE run_at < '2099-01-01')}, 'all jobs are done');
	is($node->safe_psql('postgres', q{
		SELECT count(*) FROM sent s WHERE NOT EXISTS (SELECT FROM ran r WHERE r.id = s.id)
		   AND NOT EXISTS (SELECT FROM backfill.job j WHERE j.id = s.id)}), '0', 'no job is lost');
	is($node->safe_psql('postgres', q{
		SELECT count(*) FROM ran r WHERE EXISTS (SELECT FROM backfill.job j WHERE j.id = r.id)}),
		'0', 'no job that is done is back');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM backfill.dead_letter'), '0', 'no job has failed');
	return;
}

under_load(sub {
	$node->safe_psql(
		'postgres', q{
		CREATE TABLE log (step bigserial, gone bigint, come backfill.job);
		CREATE FUNCTION log_change() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO public.log (gone, come) VALUES (OLD.id, NEW);
			RETURN NULL;
		END $$;
		CREATE TRIGGER log_change AFTER INSERT OR UPDATE OR DELETE ON backfill.job
			FOR EACH ROW EXECUTE FUNCTION log_change();
		-- No transaction that has not seen the trigger is left: to create it waits for them all.
		CREATE TABLE copy (LIKE backfill.job);
		BEGIN ISOLATION LEVEL REPEATABLE READ;
		DELETE FROM log; -- the snapshot has what these say
		INSERT INTO copy SELECT * FROM backfill.job;
		COMMIT;
	});
	my $logged = $node->safe_psql('postgres', 'SELECT count(*) FROM log');
	wait_until($node, 'postgres', "SELECT count(*) > $logged + 200 FROM log", 'changes are logged');
	is($node->safe_psql(
		'postgres', q{
		BEGIN;
		LOCK TABLE backfill.job IN ACCESS EXCLUSIVE MODE;
		DO $$
		DECLARE
			change record;
		BEGIN
			FOR change IN SELECT gone, come FROM log ORDER BY step LOOP
				DELETE FROM copy WHERE id = change.gone;
				INSERT INTO copy SELECT (change.come).* WHERE (change.come).id IS NOT NULL;
			END LOOP;
		END $$;
		SELECT (SELECT count(*) FROM (TABLE copy EXCEPT ALL TABLE backfill.job) x),
		       (SELECT count(*) FROM (TABLE backfill.job EXCEPT ALL TABLE copy) x);
		DROP TRIGGER log_change ON backfill.job;
		COMMIT;
	}), '0|0', 'the copy has every job, and no other');
});

SKIP:
{
	my $found = $node->safe_psql('postgres', q{SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_repack'});
	skip 'pg_repack is not installed', 8 if $found eq '0';
	$node->safe_psql('postgres', 'CREATE EXTENSION pg_repack');
	under_load(sub {
		$node->command_ok([ 'pg_repack', '--no-order', '-d', 'postgres', '-t', 'backfill.job' ], 'pg_repack packs the table');
	});
}

$node->stop;
done_testing();

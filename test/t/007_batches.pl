# Jobs share a transaction, but not their fate: one that fails, also only when its deferred
# constraints are checked, or when the transaction commits, does not sink its neighbours.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('batches',
	conf => "backfill.poll_interval = '1h'\nbackfill.max_executors = 1\nbackfill.batch_time = '1s'\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE ran (name text, n int, xid xid8 DEFAULT pg_current_xact_id());
	CREATE TABLE parent (id int PRIMARY KEY);
	CREATE TABLE child (id int, parent int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
	CREATE TABLE unique_later (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);
	CREATE FUNCTION good(payload jsonb) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO ran VALUES (payload->>'name', (payload->>'n')::int) $$;

	-- A trigger that fails only at the commit itself. Until then the job's subtransaction is open, or
	-- another one in which its deferred triggers are tried.
	CREATE TABLE stubborn (name text);
	CREATE TABLE probe (id int);
	CREATE FUNCTION fail_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE
		inserter xid;
	BEGIN
		INSERT INTO probe VALUES (1) RETURNING xmin INTO inserter;
		IF inserter = pg_current_xact_id()::xid THEN
			RAISE EXCEPTION 'fails at commit' USING HINT = 'Do not commit.';
		END IF;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON stubborn DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION fail_at_commit();

	CREATE FUNCTION bad(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO ran VALUES (payload->>'name', (payload->>'n')::int);
		CASE payload->>'name'
			WHEN 'error' THEN PERFORM 1 / 0;
			WHEN 'foreign key' THEN INSERT INTO child VALUES (1, 4711);
			WHEN 'unique' THEN INSERT INTO unique_later VALUES (1), (1);
			ELSE INSERT INTO stubborn VALUES (payload->>'name');
		END CASE;
	END $$;
	CREATE FUNCTION late_parent(payload jsonb) RETURNS void LANGUAGE sql AS $$
		INSERT INTO child VALUES (2, 2); INSERT INTO parent VALUES (2) $$;
	SELECT backfill.set_retry_policy('quick', 3, '1 ms', '1 ms', 1, 0);
	SELECT backfill.register_task(t, (t || '(jsonb)')::regprocedure, retry_policy => 'quick')
	FROM unnest('{good,bad,late_parent}'::text[]) t;
	SELECT backfill.enqueue(t, '{"name": "error"}') FROM unnest('{good,bad}'::text[]) t;
	SELECT backfill.enqueue('late_parent');
});
# From here on the executor knows that these tasks are fast.
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'the first jobs have ended');
is($node->safe_psql('postgres', 'SELECT parent FROM child'), 2, 'a parent may come after its child');
$node->safe_psql('postgres', 'TRUNCATE backfill.dead_letter, ran');

# Ten good jobs, a bad one in the middle, whose payload is too long for its row; how they end.
# Returns the number of transactions of the good ones.
sub with_neighbours
{
	my ($bad) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql('postgres', qq{
		TRUNCATE ran, backfill.dead_letter;
		SELECT count(*) FROM backfill.enqueue_jobs((SELECT jsonb_agg(jsonb_build_object(
			'task_identifier', CASE i WHEN 6 THEN 'bad' ELSE 'good' END,
			'payload', CASE i WHEN 6 THEN jsonb_build_object('n', i, 'name', '$bad', 'long',
					(SELECT string_agg(md5(k::text), '') FROM generate_series(1, 500) k))
				ELSE jsonb_build_object('n', i, 'name', 'good') END) ORDER BY i)
		FROM generate_series(1, 11) i))});
	wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', "$bad: all jobs have ended");
	is( $node->safe_psql(
			'postgres', qq{
		SELECT string_agg(n::text, ',' ORDER BY n) FILTER (WHERE name = 'good'), count(*) FILTER (WHERE name = '$bad'),
			(SELECT count(*) FROM backfill.list_dlq_jobs()) FROM ran}),
		'1,2,3,4,5,7,8,9,10,11|0|1',
		"$bad: the job is a dead letter, its neighbours ran exactly once");
	return $node->safe_psql('postgres', q{SELECT count(DISTINCT xid) FROM ran WHERE name = 'good'});
}

# The same until there was this number of transactions: on a machine that is busy with other things a
# job may take long enough for its task to count as slow, and runs alone for a while.
sub in_transactions
{
	my ($bad, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return try_until(
		$name,
		sub {
			my $transactions = with_neighbours($bad);
			return ($transactions == $expected, "$transactions transactions");
		});
}

sub in_one_batch
{
	my ($bad) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return in_transactions($bad, 1, "$bad: all of that in one transaction");
}

sub letter
{
	return $node->safe_psql('postgres', q{SELECT failure_count, last_error->>'sqlstate', last_error->>'message',
		coalesce(last_error->>'detail', last_error->>'hint') FROM backfill.list_dlq_jobs()});
}

in_one_batch('error');
is(letter(), '1|22012|division by zero|', 'the dead letter of the bad job has its error');

in_one_batch('foreign key');
is( letter(),
	'1|23503|insert or update on table "child" violates foreign key constraint "child_parent_fkey"|Key (parent)=(4711) is not present in table "parent".',
	'a constraint that is checked at the end fails the job that broke it');

in_one_batch('unique');
is(letter(),
	'1|23505|duplicate key value violates unique constraint "unique_later_id_key"|Key (id)=(1) already exists.',
	'a deferred unique constraint fails the job that broke it');

# The commit itself fails, whatever is tried: the job is charged with it.
my $position = log_position($node);
cmp_ok(with_neighbours('commit'), '>', 1, 'the neighbours of a job that cannot be committed run one per transaction');
is(letter(), '3|P0001|fails at commit|Do not commit.', 'the job that cannot be committed is retried and dead-lettered with the error of the commit');
is(scalar(log_lines($node, qr/job \d+ failed and will be retried: fails at commit/, $position)), 2, 'the log says that the commit\'s failure is retried');

# Afterwards batches are batches again.
in_one_batch('error');
wait_for_workers($node, 'executor', 'postgres', 1, 'the executor is still there');
is(scalar(log_lines($node, qr/ 57P01 |exited with exit code/)), 0, 'no worker has ended');

# A deferred trigger fires twice for each job, when it is tried and at the commit, and not again for
# the jobs that follow: what it does may not be undone by a rollback.
$node->safe_psql('postgres', q{
	CREATE SEQUENCE fired;
	CREATE TABLE watched (n int);
	CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('fired'); RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON watched DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fire();
	CREATE FUNCTION write_watched(payload jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO watched VALUES (1)';
	SELECT backfill.register_task('write_watched', 'write_watched(jsonb)');
	SELECT backfill.enqueue('write_watched')});
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'the executor knows that the task is fast');
$node->safe_psql('postgres', q{SELECT count(*) FROM backfill.enqueue_many('write_watched', array_fill('{}'::jsonb, ARRAY[9]))});
wait_until($node, 'postgres', 'SELECT count(*) = 10 FROM watched', 'ten jobs have ended');
is($node->safe_psql('postgres', 'SELECT last_value FROM fired'), 20, 'the trigger has fired twice for each of them');

# What a hook violates is the hook's failure, not that of the job or of the commit.
$node->safe_psql('postgres', q{
	CREATE FUNCTION break_constraint(event jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO child VALUES (3, 4711)';
	SELECT backfill.register_hook(event, 'break_constraint(jsonb)', 'late_parent') FROM unnest('{job_start,job_complete}'::text[]) event;
	TRUNCATE child, parent, backfill.dead_letter;
	SELECT backfill.enqueue('late_parent')});
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'a job whose hooks violate a constraint has ended');
is($node->safe_psql('postgres', 'SELECT string_agg(parent::text, $$,$$), (SELECT count(*) FROM backfill.dead_letter) FROM child'), '2|0', 'the job whose hooks violate a constraint has succeeded');
is(scalar(log_lines($node, qr/WARNING:  hook public.break_constraint\(jsonb\) failed: insert or update on table "child" violates/)), 2, 'each hook has failed');

# A batch ends when its time is over, so that others see what is done.
$node->safe_psql('postgres', q{ALTER SYSTEM SET backfill.batch_time = 0});
$node->reload;
wait_until($node, 'postgres', 'SHOW backfill.batch_time', 'batch_time is 0', 0);
in_transactions('error', 10, 'when each hook fails, every job has a transaction of its own');

# Jobs that write in subtransactions of their own, more of them than a batch may have.
$node->safe_psql('postgres', q{ALTER SYSTEM SET backfill.batch_time = '1s'});
$node->reload;
wait_until($node, 'postgres', 'SHOW backfill.batch_time', 'batch_time is 1 s', '1s');
$node->safe_psql('postgres', q{
	TRUNCATE ran;
	SELECT count(*) FROM backfill.enqueue_many('good', ARRAY(SELECT jsonb_build_object('n', i) FROM generate_series(1, 300) i))});
wait_until($node, 'postgres', 'SELECT count(*) = 300 FROM ran', '300 jobs run');
cmp_ok($node->safe_psql('postgres', 'SELECT max(n) FROM (SELECT count(*) AS n FROM ran GROUP BY xid) x'),
	'<=', 60, 'at most 60 jobs with subtransactions share one transaction');

$node->stop;
check_log($node);
done_testing();

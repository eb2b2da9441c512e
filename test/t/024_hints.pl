# What shared memory says is only a hint. Executors choose in order (priority, run_at, id), with
# true hints as with false ones; and if any hint may be lost, repeated or wrong at any moment,
# every job that committed runs, and runs once. A long backlog takes no more memory than a short
# one. With one executor, where the order of two jobs can be told.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('hints', conf => "backfill.max_executors = 1\nbackfill.executor_max_jobs = 0\n");
create_extension($node);

# Each job notes what it is, which session enqueued it and what was visible to it.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE ran (step bigserial, job bigint, priority int, run_at timestamptz, enqueued_by xid8, batch xid8, saw pg_snapshot);
	CREATE TABLE acknowledged (enqueued_by xid8, at xid8);
	CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS $$
		INSERT INTO ran (job, priority, run_at, enqueued_by, batch, saw)
		SELECT j.id, j.priority, j.run_at, (payload->>'by')::xid8, pg_current_xact_id(), pg_current_snapshot()
		  FROM backfill.current_job() j $$;
	SELECT backfill.register_task(t, 'note(jsonb)') FROM unnest('{a,b,c}'::text[]) t;
	CREATE FUNCTION enqueue_random(jobs int) RETURNS bigint LANGUAGE sql AS $$
		SELECT count(backfill.enqueue((ARRAY['a', 'b', 'c'])[1 + floor(random() * 3)], jsonb_build_object('by', pg_current_xact_id()),
				queue_name => (ARRAY['fast', 'bulk', 'other'])[1 + floor(random() * 3)], priority => (random() * 20 - 10)::int,
				run_at => now() - floor(random() * 10) * interval '1 minute'))
		  FROM generate_series(1, jobs) $$});

sub set_and_wait
{
	my ($setting, $value) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET $setting = $value");
	$node->reload;
	wait_until($node, 'postgres', "SELECT setting::float8 = $value FROM pg_settings WHERE name = '$setting'", "$setting is $value");
	return;
}

sub is_done
{
	my ($jobs, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', "$what: no job is left");
	is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT job) FROM ran'), "$jobs|$jobs", "$what: each has run once");
	return;
}

# --- Order

# All are there before the executor comes.
set_and_wait('backfill.max_executors', 0);
wait_for_workers($node, 'executor', 'postgres', '= 0', 'there is no executor');
$node->safe_psql('postgres', 'SELECT enqueue_random(3000)');
set_and_wait('backfill.max_executors', 1);
is_done(3000, 'a backlog');
is( $node->safe_psql(
		'postgres', q{SELECT count(*) FROM (SELECT row_number() OVER (ORDER BY step) AS actual, row_number() OVER (ORDER BY priority, run_at, job) AS expected FROM ran) r
			WHERE actual <> expected}),
	0,
	'a backlog runs in order');

# Some come while others run. A job whose enqueue had been acknowledged when the batch before ended, and that sorts
# before one of this batch, must not run after it. (What is visible is not announced yet: the session that commits may
# have to wait for a processor in between.)
$node->safe_psql('postgres', 'TRUNCATE ran RESTART IDENTITY');
sub enqueue_acknowledged { my ($jobs) = @_; return "SELECT pg_current_xact_id() AS by, enqueue_random($jobs) \\gset\nINSERT INTO acknowledged VALUES (:'by', pg_current_xact_id());\n"; }
# An executor that keeps up with the sessions has nothing to choose from: there is a backlog when it comes.
set_and_wait('backfill.max_executors', 0);
wait_for_workers($node, 'executor', 'postgres', '= 0', 'there is no executor again');
$node->safe_psql('postgres', enqueue_acknowledged(2000));
set_and_wait('backfill.max_executors', 1);
run_psqls($node, 'postgres', (enqueue_acknowledged(10) x 60) x 3);
is_done(3800, 'while others come');
cmp_ok($node->safe_psql('postgres', 'SELECT count(DISTINCT batch) FROM ran'), '>', 5, 'the jobs ran in several batches');
my $batches = q{WITH batches AS (SELECT batch, lag(saw) OVER (ORDER BY step) AS saw_before
		FROM (SELECT DISTINCT ON (batch) batch, saw, step FROM ran ORDER BY batch, step DESC) last_of_batch)};
is( $node->safe_psql(
		'postgres', qq{$batches
		SELECT count(*) FROM ran b JOIN batches USING (batch)
		  JOIN ran a ON a.step > b.step AND (a.priority, a.run_at, a.job) < (b.priority, b.run_at, b.job)
		  JOIN acknowledged k ON k.enqueued_by = a.enqueued_by
		 WHERE pg_visible_in_snapshot(k.at, saw_before)}),
	0,
	'no job overtakes a better one that was there before its batch');
cmp_ok($node->safe_psql('postgres', qq{$batches
		SELECT count(*) FROM ran b JOIN batches USING (batch) JOIN acknowledged k USING (enqueued_by) WHERE pg_visible_in_snapshot(k.at, saw_before)}),
	'>', 0, 'and there were such jobs');

# --- Memory

my ($executor) = worker_pids($node, 'executor');
my $memory = resident_kb($executor);
$node->safe_psql('postgres', q{TRUNCATE ran RESTART IDENTITY;
	SELECT count(*) FROM backfill.enqueue_many('a', array_fill('{}'::jsonb, ARRAY[100000]))});
is_done(100000, 'a long backlog');
is((worker_pids($node, 'executor'))[0], $executor, 'the same executor ran the long backlog');
cmp_ok(resident_kb($executor) - $memory, '<', 2000, 'the executor\'s memory did not grow with the backlog');

# --- Faults

# Jobs are found late then, by sweeps, which come often here.
set_and_wait('backfill.poll_interval', 10);
set_and_wait('backfill.max_executors', 3);
for my $faults (0.3, 1)
{
	$node->safe_psql('postgres', 'TRUNCATE ran RESTART IDENTITY');
	set_and_wait('backfill.hint_faults', $faults);
	run_psqls($node, 'postgres', ("SELECT enqueue_random(10);\nBEGIN; SELECT enqueue_random(5); ROLLBACK;\n" x 20) x 4);
	is_done(800, "faults $faults");
}
set_and_wait('backfill.hint_faults', 0);

$node->stop;
done_testing();

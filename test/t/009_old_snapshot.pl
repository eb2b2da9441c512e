# Thousands of dead rows that vacuum may not remove, because an old snapshot is open: executors
# begin to read beyond them, at the low-water mark, and still miss no job that becomes ready
# below it. poll_interval is one hour, except where the sweep has to find what no commit announced.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('old_snapshot',
	conf => "backfill.poll_interval = '1h'\nbackfill.max_executors = 2\nmax_prepared_transactions = 2\nautovacuum = off\n");
create_extension($node);
create_workload($node, 'postgres');
$node->safe_psql(
	'postgres', q{
	CREATE TABLE told (name text);
	CREATE FUNCTION tell(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO told VALUES (payload->>'name') $$;
	SELECT backfill.register_task('tell', 'tell(jsonb)', queue_name => 'told', priority => 0);
	SELECT backfill.set_retry_policy('at_once', 5, '1 ms', '1 ms', 1, 0)});


sub told
{
	my ($name, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until($node, 'postgres', "SELECT count(*) = 1 FROM told WHERE name = '$name'", $what);
	return;
}

my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$holder->query_safe('SELECT count(*) FROM pg_class');

# A session whose transaction began before all that follows.
my $early = $node->background_psql('postgres');
$early->query_safe('BEGIN');
$early->query_safe('SELECT now()');

$node->safe_psql('postgres', q{SELECT count(*) FROM backfill.enqueue_many('tell',
	ARRAY(SELECT jsonb_build_object('name', 'bulk ' || n) FROM generate_series(1, 20000) n))});
wait_until($node, 'postgres', 'SELECT count(*) = 20000 FROM told', 'all jobs run while the snapshot is open');
is($node->safe_psql('postgres', 'SELECT count(DISTINCT name) FROM told'), 20000, 'each once');

# A job below the mark because its transaction began earlier, or because it says so.
$early->query_safe(q{SELECT backfill.enqueue('tell', '{"name": "early"}')});
$early->query_safe('COMMIT');
told('early', 'a job whose transaction began before the others had run');
$node->safe_psql('postgres', q{SELECT backfill.enqueue('tell', '{"name": "past"}', run_at => '2001-01-01')});
told('past', 'a job with a run_at in the past');
$node->safe_psql('postgres', q{SELECT backfill.enqueue('tell', '{"name": "urgent"}', priority => -20)});
told('urgent', 'a job of a range that had none');
$node->safe_psql('postgres', q{SELECT backfill.enqueue('tell', '{"name": "soon"}', run_at => clock_timestamp() + '300 ms')});
told('soon', 'a job that becomes due');
$node->safe_psql('postgres', q{
	SELECT backfill.enqueue('tell', '{"name": "moved"}', run_at => now() + '1 day') AS id \gset
	SELECT count(*) FROM backfill.reschedule_jobs(ARRAY[:id], run_at => '2001-01-02')});
told('moved', 'a job that is moved to below the mark');

# A job that was claimed, and whose executor's transaction then aborts, is ready again below the
# mark that the other executor has raised meanwhile.
$node->safe_psql('postgres', q{
	CREATE SEQUENCE tries; -- counts also what is rolled back
	CREATE FUNCTION hold(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO told VALUES (payload->>'name');
		IF payload->>'name' = 'held' AND nextval('tries') = 1 THEN
			PERFORM pg_sleep(600);
		END IF;
	END $$;
	SELECT backfill.register_task('hold', 'hold(jsonb)', queue_name => 'told', priority => 0);
	SELECT backfill.enqueue('hold', '{"name": "held"}')});
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM backfill.jobs WHERE task_identifier = 'hold' AND state = 'running'}, 'a job is held');
my $held = $node->safe_psql('postgres', q{SELECT pid FROM backfill.workers WHERE job_id IS NOT NULL});
$node->safe_psql('postgres', q{SELECT count(*) FROM backfill.enqueue_many('hold',
	ARRAY(SELECT jsonb_build_object('name', 'after ' || n) FROM generate_series(1, 2000) n))});
wait_until($node, 'postgres', q{SELECT count(*) = 2000 FROM told WHERE name LIKE 'after %'}, 'others of its range run meanwhile');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($held)");
told('held', 'the job of an executor that was ended runs again');

# What no commit announces is found by the sweep.
$node->append_conf('postgresql.conf', "backfill.poll_interval = '50ms'\n");
$node->reload;
my $file = PostgreSQL::Test::Utils::tempdir() . '/rows';
$node->safe_psql(
	'postgres', qq{
	BEGIN;
	SELECT backfill.enqueue('tell', '{"name": "prepared"}', run_at => '2001-01-03');
	PREPARE TRANSACTION 'p';
	COMMIT PREPARED 'p';
	BEGIN;
	SELECT backfill.enqueue('tell', '{"name": "copied"}', run_at => '2001-01-04');
	COPY (SELECT * FROM backfill.job WHERE payload->>'name' = 'copied') TO '$file';
	ROLLBACK;
	COPY backfill.job FROM '$file'});
told('prepared', 'the job of COMMIT PREPARED');
told('copied', 'a row that was copied into the table');
# A row that is locked by two sessions waits until they let go; nothing spins meanwhile.
$node->safe_psql('postgres', q{SELECT backfill.pause_queue('told')});
$node->safe_psql('postgres', q{SELECT backfill.enqueue('tell', '{"name": "locked"}')});
my @lockers = map { $node->background_psql('postgres') } 1 .. 2;
for my $session (@lockers)
{
	$session->query_safe('BEGIN');
	$session->query_safe(q{SELECT id FROM backfill.job WHERE payload->>'name' = 'locked' FOR SHARE});
}
$node->safe_psql('postgres', q{SELECT backfill.resume_queue('told')});
$node->safe_psql('postgres', q{SELECT backfill.enqueue('tell', '{"name": "behind"}')});
told('behind', 'a job behind one whose row is locked runs');
wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM backfill.workers WHERE kind = 'executor' AND state <> 'idle'}, 'the executors rest');
is($node->safe_psql('postgres', q{SELECT count(*) FROM told WHERE name = 'locked'}), 0, 'while the locked one waits');
$_->quit for @lockers;
told('locked', 'the locked job runs when its row is free');

produce($node, 'postgres', 300);
is_exactly_once($node, 'postgres', 'a mixed load');
$holder->quit;
is($node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT name FROM told GROUP BY name HAVING count(*) > 1) t}), 0, 'no job ran twice');

# Nor does an executor walk over a range's head once its entries are known to be dead. Autovacuum would read the index, too.
$node->append_conf('postgresql.conf', "backfill.poll_interval = '1h'\nbackfill.max_executors = 1\nautovacuum = off\n");
$node->reload;
$node->safe_psql('postgres', 'CREATE DATABASE heads');
create_extension($node, 'heads');
$node->safe_psql('heads', q{
	CREATE FUNCTION nothing(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
	SELECT backfill.register_task('nothing', 'nothing(jsonb)')});

# Runs a number of jobs; returns how often the index was looked into meanwhile, and how many of its blocks were read.
sub run_jobs
{
	my ($count, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $reads = q{SELECT idx_scan, idx_blks_hit + idx_blks_read
		FROM pg_stat_all_indexes JOIN pg_statio_all_indexes USING (indexrelid) WHERE pg_stat_all_indexes.indexrelname = 'job_ready_idx'};
	my @before = split /\|/, $node->safe_psql('heads', $reads);
	$node->safe_psql('heads', "SELECT count(*) FROM backfill.enqueue_many('nothing', ARRAY(SELECT '{}'::jsonb FROM generate_series(1, $count)))");
	wait_until($node, 'heads', q{SELECT (SELECT count(*) FROM backfill.job), string_agg(state, ',') FROM backfill.workers WHERE kind = 'executor'},
		$name, '0|idle');
	my @after = split /\|/, $node->safe_psql('heads', $reads);
	return ($after[0] - $before[0], $after[1] - $before[1]);
}

run_jobs(30000, 'many jobs run');
$node->safe_psql('heads', q{SET enable_seqscan = off; SET enable_bitmapscan = off;
	SELECT count(*) FROM backfill.job WHERE task_identifier = 'nothing' AND lease_expires_at IS NULL});
run_jobs(1, 'a single job runs');
# What a process has read may be counted a second later: the mean says more than one of them.
my ($scans, $blocks) = (0, 0);
for my $number (1 .. 10)
{
	my ($more_scans, $more_blocks) = run_jobs(1, "single job $number runs");
	$scans += $more_scans;
	$blocks += $more_blocks;
}
note "$blocks blocks in $scans scans";
cmp_ok($scans, '>', 0, 'the index was read for a single job');
cmp_ok($blocks, '<', 5 * $scans, 'the index was read only where it must be');
$node->stop;
check_log($node);
done_testing();

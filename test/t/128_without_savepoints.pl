# Jobs of tasks that hardly ever fail run without a savepoint each. One that fails is charged alone and
# runs once; the others of its batch are run again, and count once.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

# Batches are undone only where the test says so, because runs are counted.
my $node = preloaded('savepoints',
	conf => "backfill.undo_faults = 0\nbackfill.poll_interval = '1h'\nbackfill.max_executors = 1\nbackfill.batch_time = '1s'\nbackfill.savepoint_per_job = 'off'\n");
create_extension($node);

sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{
	CREATE TABLE ran (n int, run bigint, xid xid8 DEFAULT pg_current_xact_id());
	CREATE SEQUENCE runs; -- counts every run, also one that is undone
	CREATE FUNCTION work(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		how text := payload->>'how';
	BEGIN
		INSERT INTO ran VALUES ((payload->>'n')::int, nextval('runs'));
		PERFORM set_config('work_mem', '1MB', false);
		CASE how
			WHEN 'fail' THEN RAISE EXCEPTION 'job % failed', payload->>'n' USING ERRCODE = 'JB002';
			WHEN 'snooze' THEN PERFORM backfill.snooze('1 day');
			WHEN 'discard' THEN PERFORM backfill.discard('no use');
			WHEN 'unique' THEN INSERT INTO unique_later VALUES (1), (1);
			WHEN 'caught' THEN
				BEGIN
					PERFORM backfill.discard('not said'), 1 / 0;
				EXCEPTION WHEN division_by_zero THEN NULL;
				END;
			WHEN 'wait' THEN PERFORM pg_advisory_xact_lock(1);
			WHEN 'sleep' THEN PERFORM pg_sleep(600);
			WHEN 'catch all' THEN
				BEGIN
					PERFORM pg_sleep(600);
				EXCEPTION WHEN query_canceled THEN NULL;
				END;
			WHEN 'nest' THEN
				FOR i IN 1 .. 5000 LOOP
					BEGIN
						INSERT INTO ran VALUES (-i, 0);
						IF i % 2 = 0 THEN RAISE EXCEPTION 'undone'; END IF;
					EXCEPTION WHEN raise_exception THEN NULL;
					END;
				END LOOP;
			ELSE NULL;
		END CASE;
	END $$;
	CREATE TABLE unique_later (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);
	SELECT backfill.set_retry_policy('once', 1);
	SELECT backfill.register_task('work', 'work(jsonb)', retry_policy => 'once', keep_history => '1 day');
	SELECT backfill.enqueue('work', '{"n": 0}') });
# From here on the executor knows that the task is fast.
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'a first job has run');

# Runs a batch of jobs 1 to $count, of which some do what they are told by a map of numbers.
sub run_batch
{
	my ($count, $map, %params) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	sql(qq{
		TRUNCATE ran, backfill.dead_letter, backfill.job_history;
		SELECT setval('runs', 1, false);
		SELECT count(*) FROM backfill.enqueue_jobs((SELECT jsonb_agg(jsonb_build_object('task_identifier', 'work',
			'payload', jsonb_build_object('n', i, 'how', ('$map'::jsonb)->>i::text)) ORDER BY i) FROM generate_series(1, $count) i))});
	$params{meanwhile}->() if $params{meanwhile};
	my $left = $params{left} // 0;
	wait_until($node, 'postgres', "SELECT count(*) = $left FROM backfill.job", 'all jobs have ended');
	return;
}

sub counters
{
	return sql(q{SELECT jobs_done || ' ' || jobs_failed FROM backfill.workers WHERE kind = 'executor'});
}

# Where the machine is busy with other things, a job may look slow, and end its batch.
try_until(
	'400 jobs that write share a transaction',
	sub {
		run_batch(400, '{}');
		my $transactions = sql('SELECT count(DISTINCT xid) FROM ran');
		return ($transactions == 1, "$transactions transactions");
	});
is(sql('SELECT count(*), count(DISTINCT n), max(run) FROM ran'), '400|400|400', '400 jobs that write run once');
is(sql('SELECT bool_and(r.xmin = r.xid::xid) FROM ran r'), 't', 'none has a transaction id of its own');

my ($done, $failed) = split ' ', counters();
run_batch(400, '{"200": "fail"}');
is(sql('SELECT count(*), count(DISTINCT n), bool_or(n = 200) FROM ran'), '399|399|f', 'one of 400 fails: the others are done once');
is(sql('SELECT array_agg(l.payload->>$$n$$ ORDER BY 1), max(l.last_error->>$$message$$), max(l.failure_count) FROM backfill.dead_letter l'),
	'{200}|job 200 failed|1', '... and it alone is charged');
cmp_ok(sql('SELECT last_value FROM runs'), '==', 599, '... it has run once, 199 neighbours twice');
is(sql(q{SELECT count(*), count(*) FILTER (WHERE h.outcome = 'completed') FROM backfill.history h}), '400|399', '... and history has each once');
is(counters(), ($done + 400) . ' ' . ($failed + 1), '... and so have the counters of the worker');
is(sql(q{SELECT sum(m.value) FROM backfill.metrics() m WHERE m.name = 'backfill_jobs_completed'}), $done + 399,
	'... and the metrics');

run_batch(60, '{"1": "fail", "20": "fail", "21": "fail", "60": "fail"}');
is(sql('SELECT count(*), count(DISTINCT n) FROM ran'), '56|56', 'several of a batch fail');
is(sql('SELECT array_agg((l.payload->>$$n$$)::int ORDER BY l.id) FROM backfill.dead_letter l'), '{1,20,21,60}', '... and are charged in order');

run_batch(20, '{"10": "unique"}');
is(sql('SELECT count(*), count(DISTINCT n) FROM ran'), '19|19', 'a deferred constraint fails its job alone');
is(sql('SELECT array_agg(l.payload->>$$n$$) FROM backfill.dead_letter l'), '{10}', '... which is charged');

run_batch(20, '{"5": "snooze", "10": "discard", "12": "caught", "15": "fail"}', left => 1);
is(sql('SELECT string_agg(n::text, $$ $$ ORDER BY n) FROM ran WHERE n IN (5, 10, 12, 15)'), '5 10 12', 'what jobs say of themselves holds');
is(sql('SELECT array_agg((l.payload->>$$n$$)::int ORDER BY l.id) FROM backfill.dead_letter l'), '{10,15}', '... a discarded one has a letter');
is(sql('SELECT j.payload->>$$n$$, j.attempts, j.run_at > now() + interval $$23 hours$$ FROM backfill.job j'), '5|0|t', '... and a snoozed one waits');
sql('DELETE FROM backfill.job');

my $discarded = log_position($node);
run_batch(20, '{"5": "discard", "10": "fail"}');
is(scalar(log_lines($node, qr/failed for good.*no use/, $discarded)), 1, 'what is in the log is not undone, and not said twice');

run_batch(20, '{"10": "nest"}');
is(sql('SELECT count(*) FILTER (WHERE n > 0), count(*) FILTER (WHERE n < 0) FROM ran'), '20|2500', 'a job of 5,000 savepoints leaves what it should');

# From outside.
my $in_sleep = q{SELECT count(*) = 1 FROM backfill.workers w JOIN pg_stat_activity a USING (pid) WHERE a.wait_event = 'PgSleep' AND w.job_id IS NOT NULL};
for my $how ('sleep', 'catch all')
{
	run_batch(20, qq({"10": "$how"}), meanwhile => sub {
		wait_until($node, 'postgres', $in_sleep, "$how: job 10 runs");
		sql('SELECT backfill.cancel_job(w.job_id) FROM backfill.workers w WHERE w.job_id IS NOT NULL');
	});
	is(sql('SELECT count(*), count(DISTINCT n), max(run) FROM ran'), '19|19|29', "$how: a job is cancelled, the others are done");
	is(sql('SELECT h.id - min(o.id) + 1, h.outcome FROM backfill.history h, backfill.history o WHERE h.outcome <> $$completed$$ GROUP BY 2, h.id'), '10|cancelled', '... it has the fate of a cancelled one');
}
sql(q{SELECT backfill.register_task('work', 'work(jsonb)', retry_policy => 'once', keep_history => '1 day', timeout => '2 s')});
run_batch(20, '{"10": "sleep"}');
is(sql('SELECT count(*), count(DISTINCT n), max(run) FROM ran'), '19|19|29', 'a job runs into its time limit, once');
like(sql('SELECT l.last_error->>$$message$$ FROM backfill.dead_letter l'), qr/^job ran longer than the timeout of its task/, '... and is charged with that');
sql(q{SELECT backfill.register_task('work', 'work(jsonb)', retry_policy => 'once', keep_history => '1 day')});

my $psql = $node->background_psql('postgres');
$psql->query_safe('BEGIN; SELECT pg_advisory_xact_lock(1)');
run_batch(20, '{"10": "wait"}', meanwhile => sub {
	wait_until($node, 'postgres', 'SELECT array_agg(n ORDER BY n) = $${1,2,3,4,5,6,7,8,9}$$ FROM ran',
		'a job waits for a lock: those before it are committed');
	$psql->query_safe('COMMIT');
});
$psql->quit;
is(sql('SELECT count(*), count(DISTINCT n) FROM ran'), '20|20', '... and all are done in the end');
is(sql('SELECT count(*) FROM backfill.dead_letter'), 0, '... the waiting one is not charged');

# The end of the process, and of the server, in the middle of a batch.
run_batch(20, '{"10": "sleep"}', meanwhile => sub {
	wait_until($node, 'postgres', $in_sleep, 'job 10 runs');
	# The job is set aside for longer each time: the next executor may take longer to start than the first pause lasts.
	try_until('its executor is terminated: the others are done', sub {
		my $count = sql('SELECT count(*) FROM ran');
		sql("SELECT pg_terminate_backend(w.pid) FROM backfill.workers w WHERE w.job_id IS NOT NULL AND ($in_sleep)") if $count != 19;
		return ($count == 19, "$count ran");
	});
	wait_until($node, 'postgres', $in_sleep, '... and it runs again');
	sql(q{SELECT backfill.cancel_job(w.job_id) FROM backfill.workers w WHERE w.job_id IS NOT NULL});
});
is(sql('SELECT count(*), count(DISTINCT n) FROM ran'), '19|19', '... each once');
run_batch(20, '{"10": "sleep"}', meanwhile => sub {
	wait_until($node, 'postgres', $in_sleep, 'job 10 runs');
	$node->stop('immediate');
	$node->start;
	wait_until($node, 'postgres', $in_sleep, 'the server crashes: it runs again');
	sql(q{SELECT backfill.cancel_job(w.job_id) FROM backfill.workers w WHERE w.job_id IS NOT NULL});
});
is(sql('SELECT count(*), count(DISTINCT n) FROM ran'), '19|19', '... each once');

# Rates count what starts for good.
sql(q{SELECT backfill.set_queue('rated', rate_limit => 30, rate_period => '1 hour');
	SELECT backfill.register_task('work', 'work(jsonb)', 'rated', retry_policy => 'once')});
run_batch(30, '{"25": "fail"}');
is(sql('SELECT count(*), count(DISTINCT n) FROM ran'), '29|29', 'a rate of 30 lets 30 jobs start, though a batch is undone');

# With a savepoint after all.
sub has_savepoints
{
	my ($name, $prepare, $tidy) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	sql(qq{$prepare; SELECT backfill.enqueue('work')});
	wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', "$name: a first job has run");
	run_batch(20, '{"10": "fail"}');
	is(sql('SELECT count(*), bool_and(r.xmin <> r.xid::xid), max(run) FROM ran r'), '19|t|20', "$name: each job has a savepoint");
	sql($tidy);
	return;
}
has_savepoints('a task that wants them', q{SELECT backfill.register_task('work', 'work(jsonb)', retry_policy => 'once', savepoint_per_job => true)},
	q{SELECT backfill.register_task('work', 'work(jsonb)', retry_policy => 'once')});
has_savepoints('a hook hears of runs', q{CREATE FUNCTION hear(event jsonb) RETURNS void LANGUAGE sql AS ''; SELECT backfill.register_hook('job_complete', 'hear(jsonb)')},
	q{SELECT backfill.unregister_hook('job_complete', 'hear(jsonb)')});
sql('SELECT backfill.enqueue($$work$$)');
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'the hook has gone');
run_batch(20, '{}');
is(sql('SELECT count(*), bool_and(r.xmin = r.xid::xid) FROM ran r'), '20|t', '... and with it the savepoints');
$node->append_conf('postgresql.conf', "backfill.savepoint_per_job = 'on'");
$node->reload;
wait_until($node, 'postgres', q{SELECT current_setting('backfill.savepoint_per_job') = 'on'}, 'savepoints are switched on');
has_savepoints('the setting is on', 'SELECT 1', 'SELECT 1');

# By itself: after a record of successes, and no more after failures.
$node->append_conf('postgresql.conf', "backfill.savepoint_per_job = 'auto'");
$node->reload;
wait_until($node, 'postgres', q{SELECT current_setting('backfill.savepoint_per_job') = 'auto'}, 'executors decide');
sql('SELECT pg_terminate_backend(w.pid) FROM backfill.workers w WHERE w.kind = $$executor$$');
run_batch(1, '{}');
run_batch(50, '{}');
is(sql('SELECT bool_and(r.xmin <> r.xid::xid) FROM ran r'), 't', 'jobs of a new task have savepoints');
run_batch(200, '{}');
run_batch(20, '{}');
is(sql('SELECT bool_and(r.xmin = r.xid::xid) FROM ran r'), 't', 'those of one that has not failed have none');
run_batch(40, '{"3": "fail", "4": "fail", "5": "fail", "6": "fail", "7": "fail", "8": "fail"}');
is(sql('SELECT count(*) FROM ran'), 34, 'some fail');
run_batch(20, '{}');
is(sql('SELECT bool_and(r.xmin <> r.xid::xid) FROM ran r'), 't', 'those of one that fails often have savepoints again');

# Batches are undone at random.
$node->append_conf('postgresql.conf', "backfill.savepoint_per_job = 'off'\nbackfill.undo_faults = 0.02");
$node->reload;
wait_until($node, 'postgres', q{SELECT current_setting('backfill.undo_faults') = '0.02'}, 'batches are to be undone');
run_batch(2000, '{}');
is(sql('SELECT count(*), count(DISTINCT n) FROM ran'), '2000|2000', 'each job counts once, however often its batch is undone');
cmp_ok(sql('SELECT last_value FROM runs'), '>', 2000, '... and some were');
is(sql('SELECT count(*) FROM backfill.dead_letter'), 0, 'none was charged for it');

check_log($node);
done_testing();

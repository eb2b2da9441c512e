# A job whose outcome cannot be recorded is set aside: with a single executor all other jobs run
# meanwhile, health() and why_not_running() name it, a failed run is counted and not repeated, and
# when the trouble is over the job goes on by itself.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('outcomes', conf => "backfill.max_executors = 1\nbackfill.executor_idle_timeout = '1h'\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE ran (name text);
	CREATE SEQUENCE runs; -- no rollback takes it back
	CREATE FUNCTION good(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO ran VALUES (payload->>'name') $$;
	CREATE FUNCTION counted(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM nextval('runs');
		IF payload ? 'fail' THEN RAISE 'no luck' USING ERRCODE = payload->>'fail'; END IF;
		INSERT INTO ran VALUES (payload->>'name');
	END $$;
	CREATE PROCEDURE counted_procedure(payload jsonb) LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM nextval('runs');
		COMMIT;
		IF payload ? 'fail' THEN RAISE 'no luck' USING ERRCODE = payload->>'fail'; END IF;
		INSERT INTO ran VALUES (payload->>'name');
	END $$;
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'the alerting is broken'; END $$;
	CREATE ROLE monitor;
	SELECT backfill.grant_monitor('monitor');
	SELECT backfill.set_retry_policy('quick', 3, '1 ms', '1 ms', 1, 0);
	SELECT backfill.register_task('good', 'good(jsonb)'), backfill.register_task('counted', 'counted(jsonb)', retry_policy => 'quick'),
	       backfill.register_task('kept', 'counted(jsonb)', keep_history => '1 day'),
	       backfill.register_task('procedure', 'counted_procedure(jsonb)', retry_policy => 'quick');
});

sub runs
{
	return $node->safe_psql('postgres', q{SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM runs});
}

# While the trouble is there: the job is named, and a hundred others run.
my $round = 0;
sub others_go_on
{
	my ($job, $message, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until($node, 'postgres',
		"SELECT status || ' ' || detail ~ '^warning (job|claim) $job [^;]*$message' FROM backfill.health() WHERE check_name = 'set_aside'",
		"$name: health() names the job and the error");
	wait_until($node, 'postgres', "SELECT backfill.why_not_running($job) ~ '^set_aside: .*$message'", "$name: so does why_not_running()");
	# A message may quote a payload. While the job is tried again it is not set aside, hence the wait.
	wait_until($node, 'postgres', qq{
		SET ROLE monitor;
		SELECT detail ~ '(job|claim) $job [^;]*: [0-9A-Z]{5}(, |\$)', detail ~ '$message' FROM backfill.health() WHERE check_name = 'set_aside';
		SELECT a ~ '^set_aside: .*: error [0-9A-Z]{5}\$', a ~ '$message' FROM backfill.why_not_running($job) a},
		"$name: a monitor sees the SQLSTATE only", "t|f\nt|f");
	$round++;
	$node->safe_psql('postgres',
		"SELECT count(*) FROM backfill.enqueue_many('good', ARRAY(SELECT '{\"name\": \"good $round\"}'::jsonb FROM generate_series(1, 100)))");
	wait_until($node, 'postgres', "SELECT count(*) = 100 FROM ran WHERE name = 'good $round'", "$name: 100 other jobs run");
	is($node->safe_psql('postgres', "SELECT count(*) FROM backfill.job WHERE id = $job"), 1, "$name: the job is still there");
	return;
}

sub goes_on
{
	my ($job, $query, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until($node, 'postgres', $query, "$name: afterwards the job goes on");
	wait_until($node, 'postgres', "SELECT status FROM backfill.health() WHERE check_name = 'set_aside'", "$name: and health() is content", 'ok');
	return;
}

sub enqueue
{
	my ($arguments) = @_;
	return $node->safe_psql('postgres', "SELECT backfill.enqueue($arguments)");
}

# --- A dead letter cannot be written.

my $refuse = 'CREATE TRIGGER refuse BEFORE INSERT ON backfill.dead_letter FOR EACH ROW EXECUTE FUNCTION refuse()';
for my $task ('counted', 'procedure')
{
	$node->safe_psql('postgres', "ALTER SEQUENCE runs RESTART; $refuse");
	my $job = enqueue("'$task', '{\"fail\": \"22000\"}'"); # an error that is never retried
	others_go_on($job, 'the alerting is broken', "$task, permanent error");
	$node->safe_psql('postgres', 'DROP TRIGGER refuse ON backfill.dead_letter');
	goes_on($job, "SELECT count(*) = 1 FROM backfill.dlq WHERE original_job_id = $job", "$task, permanent error");
	is($node->safe_psql('postgres', "SELECT failure_count, failure_reason FROM backfill.dlq WHERE original_job_id = $job"),
		'1|permanent error 22000: no luck', "$task: the letter says what happened");
	is(runs(), 1, "$task: it has run once") if $task eq 'counted';
}

$node->safe_psql('postgres', "ALTER SEQUENCE runs RESTART; $refuse");
my $job = enqueue(q{'counted', '{"fail": "P0001"}'});
others_go_on($job, 'the alerting is broken', 'used up');
$node->safe_psql('postgres', 'DROP TRIGGER refuse ON backfill.dead_letter');
goes_on($job, "SELECT count(*) = 1 FROM backfill.dlq WHERE original_job_id = $job", 'used up');
is(runs(), 3, 'used up: it has had its three attempts and no more')
  or diag("the log about the job:\n", map { "$_\n" } log_lines($node, "job $job\\b"));
is($node->safe_psql('postgres', "SELECT failure_count FROM backfill.dlq WHERE original_job_id = $job"), 3, 'used up: as its letter says');

# --- A session has locked what is to be written, and does not end its transaction.

sub with_lock
{
	my ($sql, $work) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 1);
	$session->query_safe("BEGIN; $sql");
	$work->();
	$session->query_safe('COMMIT');
	$session->quit;
	return;
}

enqueue(q{'counted', '{"fail": "22000"}', job_key => 'locked'});
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM backfill.dlq WHERE job_key = 'locked'}, 'a dead letter with a key');
for my $task ('counted', 'procedure')
{
	my $payload = "{\"name\": \"$task with a letter\"}";
	enqueue("'$task', '{\"fail\": \"22000\"}', job_key => 'locked $task'");
	wait_until($node, 'postgres', "SELECT count(*) = 1 FROM backfill.dlq WHERE job_key = 'locked $task'", 'a dead letter with a key');
	with_lock(
		"SELECT FROM backfill.dead_letter WHERE job_key = 'locked $task' FOR UPDATE",
		sub {
			$job = enqueue("'$task', '$payload', job_key => 'locked $task'");
			others_go_on($job, 'canceling statement due to lock timeout', "$task, locked letter");
		});
	goes_on($job, "SELECT count(*) = 0 FROM backfill.dlq WHERE job_key = 'locked $task'", "$task, locked letter");
	is($node->safe_psql('postgres', "SELECT count(*) FROM ran WHERE name = '$task with a letter'"), 1, "$task: its effects are there once");
}

with_lock(
	'LOCK TABLE backfill.job_history IN SHARE MODE',
	sub {
		$job = enqueue(q{'kept', '{"name": "kept"}'});
		others_go_on($job, 'canceling statement due to lock timeout', 'locked history');
	});
goes_on($job, "SELECT count(*) = 1 FROM backfill.history WHERE id = $job AND outcome = 'completed'", 'locked history');
is($node->safe_psql('postgres', q{SELECT count(*) FROM ran WHERE name = 'kept'}), 1, 'the effects of a job whose outcome was refused are there once');

# --- An outcome that could not be recorded once, of a job that has more attempts than its policy: it waits by the policy's longest delay.

$node->safe_psql('postgres', q{
	CREATE SEQUENCE refusals;
	CREATE FUNCTION refuse_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF nextval('public.refusals') = 1 THEN RAISE 'not this time'; END IF; RETURN NEW; END $$;
	SELECT backfill.set_retry_policy('short', 2, '1 hour', '1 hour', 1, 0), backfill.register_task('patient', 'counted(jsonb)', retry_policy => 'short', max_attempts => 9)});
# Also of one that has run without a savepoint.
for my $savepoint (qw(on off))
{
	$node->append_conf('postgresql.conf', "backfill.savepoint_per_job = $savepoint\n");
	$node->restart; # so that no executor has yet to read it
	$job = $node->safe_psql('postgres', q{BEGIN; ALTER SEQUENCE refusals RESTART; SELECT backfill.enqueue('patient', '{"fail": "P0001"}') AS id \gset
		SELECT FROM backfill.reschedule_jobs(ARRAY[:id], attempts => 5); SELECT :id;
		CREATE TRIGGER refuse_once BEFORE INSERT ON backfill.job FOR EACH ROW WHEN (NEW.attempts = 6) EXECUTE FUNCTION refuse_once(); COMMIT});
	$node->wait_for_log(qr/CONTEXT:  job $job, task "patient", charged with an attempt/);
	wait_until($node, 'postgres', "SELECT attempts, state, run_at > now() + '50 minutes' FROM backfill.jobs WHERE id = $job", "savepoints $savepoint: charged beyond its policy, a job waits", '6|scheduled|t');
	$node->safe_psql('postgres', "DROP TRIGGER refuse_once ON backfill.job; SELECT backfill.cancel_job($job)");
}
set_and_reload($node, 'backfill.savepoint_per_job', 'auto');

# --- Neighbours of such a job in a batch.

$node->safe_psql('postgres', "TRUNCATE ran; $refuse");
$node->safe_psql(
	'postgres', q{
	SELECT backfill.enqueue('counted', '{"name": "neighbour"}', priority => CASE WHEN i < 50 THEN 0 ELSE 1 END) FROM generate_series(0, 99) i;
	SELECT backfill.enqueue('counted', '{"fail": "22000"}')});
wait_until($node, 'postgres', q{SELECT count(*) = 100 FROM ran WHERE name = 'neighbour'}, 'the neighbours of a job whose outcome is refused run');
$node->safe_psql('postgres', 'DROP TRIGGER refuse ON backfill.dead_letter');
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'the job whose outcome was refused ends');
is($node->safe_psql('postgres', q{SELECT count(*) FROM ran}), 100, 'the neighbours\' effects are there once');
wait_for_workers($node, 'executor', 'postgres', 1, 'one executor ran the job and its neighbours');

# --- A job that is due again while the batch goes on in which it has failed: were both runs in one transaction, its abort would undo the
# first one's record, too.

set_and_reload($node, 'backfill.batch_time', q{'1s'});
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION short(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(0.002) $$;
	SELECT backfill.set_retry_policy('twice', 2, '1 ms', '1 ms', 1, 0);
	SELECT backfill.register_task('counted twice', 'counted(jsonb)', retry_policy => 'twice', savepoint_per_job => true), backfill.register_task('short', 'short(jsonb)')});
# Their tasks are known for fast ones, or each would have a transaction of its own.
$node->safe_psql('postgres', q{SELECT backfill.enqueue('short'), backfill.enqueue('counted twice', '{}') FROM generate_series(1, 20)});
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'jobs of both tasks end');
$node->safe_psql('postgres', "ALTER SEQUENCE runs RESTART; $refuse");
$job = $node->safe_psql('postgres', q{
	WITH short AS MATERIALIZED (SELECT count(backfill.enqueue('short')) FROM generate_series(1, 100))
	SELECT backfill.enqueue('counted twice', '{"fail": "P0001"}', priority => -1) FROM short});
others_go_on($job, 'the alerting is broken', 'due again in the same batch');
$node->safe_psql('postgres', 'DROP TRIGGER refuse ON backfill.dead_letter');
goes_on($job, "SELECT count(*) = 1 FROM backfill.dlq WHERE original_job_id = $job", 'due again in the same batch');
is(runs(), 2, 'due again in the same batch: it has had its two attempts and no more');

$node->stop;
check_log($node);
done_testing();

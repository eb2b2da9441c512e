# Which process wakes which: workers appear in every database that has the extension, committed
# jobs start by latch, later ones by timer. With poll_interval at one hour nothing that
# happens here can be the work of the safety sweep, except where the test asks for it.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('wake',
	conf => "backfill.poll_interval = '1h'\nbackfill.executor_idle_timeout = '1s'\nmax_prepared_transactions = 5\n");

# --- Workers appear.

wait_for_workers($node, 'launcher', undef, 1, 'a launcher runs from the start');
wait_for_workers($node, 'dispatcher', undef, 0, 'the dispatcher of a database without the extension ends');

create_extension($node);
wait_for_workers($node, 'dispatcher', 'postgres', 1, 'CREATE EXTENSION brings a dispatcher');

$node->safe_psql('postgres', 'CREATE DATABASE later');
create_extension($node, 'later');
wait_for_workers($node, 'dispatcher', 'later', 1, 'a database that is younger than the server gets a dispatcher, too');

$node->safe_psql('postgres', 'CREATE DATABASE bare');
$node->restart;
wait_for_workers($node, 'dispatcher', 'postgres', 1, 'after a restart the dispatchers come by themselves');
wait_for_workers($node, 'dispatcher', 'later', 1, 'after a restart every database that has the extension gets a dispatcher');
wait_for_workers($node, 'dispatcher', 'bare', 0, 'after a restart a database without the extension gets no dispatcher');
is(scalar(worker_pids($node, 'executor')), 0, 'without a job no executor starts');


# --- Commits start jobs.

my $setup = q{
	CREATE TABLE ran (name text, at timestamptz DEFAULT clock_timestamp(), pid int DEFAULT pg_backend_pid());
	CREATE SEQUENCE tries;
	CREATE FUNCTION run(payload jsonb) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO ran (name) VALUES (payload->>'name') $$;
	CREATE FUNCTION fail_once(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO ran (name) VALUES (payload->>'name');
		IF nextval('tries') = 1 THEN RAISE EXCEPTION 'not yet'; END IF;
	END $$;
	CREATE FUNCTION job(name text, run_at timestamptz DEFAULT NULL) RETURNS bigint LANGUAGE sql AS
		$$ SELECT backfill.enqueue('run', jsonb_build_object('name', name), run_at => run_at) $$;
	SELECT backfill.register_task('run', 'run(jsonb)');
};
$node->safe_psql($_, $setup) for ('postgres', 'later');

sub ran
{
	my ($name, $what, $db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until($node, $db // 'postgres', "SELECT count(*) = 1 FROM ran WHERE name = '$name'", $what);
}

sub has_not_run
{
	my ($name, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', "SELECT count(*) FROM ran WHERE name = '$name'"), 0, $what);
}

$node->safe_psql('later', "SELECT job('first')");
ran('first', 'a committed job runs', 'later');

my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN');
$session->query_safe("SELECT job('open')");
$session->query_safe('SAVEPOINT s');
$session->query_safe("SELECT job('savepoint')");
$session->query_safe('ROLLBACK TO s');
$node->safe_psql('postgres', "SELECT job('other')");
ran('other', 'a job of another session runs while a transaction with a job is open');
has_not_run('open', 'the open transaction keeps its job to itself');
$session->query_safe('COMMIT');
ran('open', 'COMMIT lets it run');

$session->query_safe('BEGIN');
$session->query_safe("SELECT job('rolled back')");
$session->query_safe('ROLLBACK');
$node->safe_psql('postgres', "SELECT job('after')");
ran('after', 'the job after the rolled back one runs');
has_not_run('rolled back', 'ROLLBACK leaves no job');
has_not_run('savepoint', 'ROLLBACK TO SAVEPOINT leaves no job');
is($node->safe_psql('postgres', 'SELECT count(*) FROM backfill.job'), 0, 'a rollback leaves no row');

$session->query_safe(q{DO $$
BEGIN
	BEGIN
		PERFORM job('caught');
		RAISE EXCEPTION 'x';
	EXCEPTION WHEN raise_exception THEN
		PERFORM job('handler');
	END;
END $$});
ran('handler', 'a job of an exception handler runs');
has_not_run('caught', 'the job of the block that failed does not run');

# An executor that has just become idle is woken directly; when there is none, the
# dispatcher starts one.
$node->safe_psql('postgres', "SELECT job('idle ' || i) FROM generate_series(1, 20) i");
ran("idle $_", "job $_ of one commit") for (1, 20);
for my $i (1 .. 10)
{
	$node->safe_psql('postgres', "SELECT job('again $i')");
	ran("again $i", "ten commits, one after the other, each start their job: $i");
}
wait_for_workers($node, 'executor', undef, 0, 'executors without work end');
$node->safe_psql('postgres', "SELECT job('cold')");
ran('cold', 'a commit brings an executor back');

# --- Timers start later jobs.

$node->safe_psql('postgres', "SELECT job('far', now() + interval '1 day')");
$node->safe_psql('postgres', "SELECT job('second', now() + interval '3 s'), job('first', now() + interval '1 s')");
ran('first', 'a job runs when it is due');
ran('second', 'the next job runs when it is due');
is( $node->safe_psql(
		'postgres',
		q{SELECT string_agg(name, ',' ORDER BY at) FROM ran WHERE name IN ('first', 'second', 'far')}),
	'first,second', 'scheduled jobs run in the order of their times');
is($node->safe_psql('postgres', q{SELECT state FROM backfill.jobs WHERE payload->>'name' = 'far'}),
	'scheduled', 'a job that is due tomorrow waits');

my $due = $node->safe_psql('postgres', q{SELECT clock_timestamp() + interval '1.5 s'});
$node->safe_psql('postgres', qq{SELECT backfill.enqueue('run', '{"name": "not early"}', run_at => '$due')});
ran('not early', 'a job that is due in 1.5 seconds runs');
is($node->safe_psql('postgres', "SELECT bool_and(at >= '$due') FROM ran WHERE name = 'not early'"),
	't', 'a job does not run before its time');

$node->safe_psql(
	'postgres', q{
	SELECT backfill.set_retry_policy('soon', 3, '500 ms', '500 ms', 1, 0);
	SELECT backfill.register_task('fail_once', 'fail_once(jsonb)', retry_policy => 'soon');
	SELECT backfill.enqueue('fail_once', '{"name": "retried"}');
});
ran('retried', 'a retry starts by timer, and the failed attempt has left nothing');
is($node->safe_psql('postgres', 'SELECT last_value FROM tries'), 2, 'the retried job took two attempts');

# --- The task is registered after the job.

$node->safe_psql('postgres', q{SELECT backfill.enqueue('late task', '{"name": "was first"}')});
$node->safe_psql('postgres', q{SELECT backfill.register_task('late task', 'run(jsonb)')});
ran('was first', 'registering a task starts the jobs that wait for it');

# --- Nothing is overlooked that happens while a process is busy or waits. Here executors do not
# end, because their ends would wake the dispatcher.

$node->append_conf('postgresql.conf', "backfill.executor_idle_timeout = '1h'");
$node->reload;
$node->safe_psql(
	'postgres', q{
	CREATE ROLE bob LOGIN;
	CREATE ROLE carol LOGIN;
	GRANT INSERT ON ran TO bob, carol;
	CREATE FUNCTION run_locked(payload jsonb) RETURNS void LANGUAGE sql AS
		$$ SELECT pg_advisory_xact_lock(1); INSERT INTO ran (name) VALUES (payload->>'name') $$;
	SELECT backfill.register_task('run_locked', 'run_locked(jsonb)');
	SELECT backfill.register_task('run_bob', 'run(jsonb)', run_as => 'bob');
	SELECT backfill.register_task('run_carol', 'run(jsonb)', run_as => 'carol');
});

# A session takes a job away, so that executors pass it over, and gives it back. The fence shows
# that they have looked in the meantime.
sub set_max_executors
{
	my ($n) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->append_conf('postgresql.conf', "backfill.max_executors = $n");
	$node->reload;
	wait_for_workers($node, 'executor', 'postgres', "<= $n", "at most $n executors");
	return;
}
my $taken = q{ARRAY(SELECT id FROM backfill.job WHERE job_key = 'taken')};
my %takings = (
	'reschedule_jobs()' => "SELECT count(*) FROM backfill.reschedule_jobs($taken, priority => 3)",
	'update_job()' => "SELECT u.id FROM backfill.job j, backfill.update_job(j.id, '{\"name\": \"never\"}') u WHERE j.job_key = 'taken'",
	'permanently_fail_jobs()' => "SELECT count(*) FROM backfill.permanently_fail_jobs($taken)",
	'enqueue() with its key' => q{SELECT backfill.enqueue('run', '{"name": "never"}', job_key => 'taken')},
	'process_available_jobs()' => 'CALL backfill.process_available_jobs()');
for my $taking (sort keys %takings)
{
	for my $rollback ('ROLLBACK', 'ROLLBACK TO s; COMMIT')
	{
		my $name = "$taking; $rollback";
		set_max_executors(0);
		$node->safe_psql('postgres', qq{SELECT backfill.enqueue('run', '{"name": "$name"}', job_key => 'taken')});
		$session->query_safe('BEGIN; SAVEPOINT s');
		$session->query_safe($takings{$taking});
		set_max_executors(4);
		$node->safe_psql('postgres', qq{SELECT job('fence of $name')});
		ran("fence of $name", 'another job runs');
		has_not_run($name, 'the job that was taken does not run');
		$session->query_safe($_) for split /; /, $rollback;
		ran($name, "a job runs when it is given back: $name");
	}
}

# The only permit of a queue is taken. A job of another role, bob, waits for it, and bob has no executor
# that could notice. As soon as carol's job runs, the dispatcher has seen bob's.
$session->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', q{SELECT backfill.enqueue_serial('run_locked', '{"name": "narrow 1"}', 'narrow')});
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM backfill.jobs WHERE task_identifier = 'run_locked' AND state = 'running'},
	'the job in the serial queue is running');
$node->safe_psql('postgres', q{SELECT backfill.enqueue_serial('run_bob', '{"name": "narrow 2"}', 'narrow')});
$node->safe_psql('postgres', q{SELECT backfill.enqueue('run_carol', '{"name": "not narrow"}')});
ran('not narrow', 'a job in another queue runs');
has_not_run('narrow 2', 'the second job in the serial queue does not run');
$session->query_safe('SELECT pg_advisory_unlock(1)');
ran('narrow 1', 'the first job of the serial queue ends');
ran('narrow 2', 'the second job of the serial queue, of another role, follows');

# The settings are changed while the dispatcher waits for a lock. A new session that knows of
# the change shows that every process has been told. The alarm that starts the search for a
# deadlock wakes the dispatcher, too: it must be over before that.
$node->append_conf('postgresql.conf', "deadlock_timeout = '1ms'");
$node->reload;
wait_for_workers($node, 'executor', 'postgres', '> 1', 'there are executors');
$session->query_safe('BEGIN');
$session->query_safe('LOCK TABLE backfill.job');
$node->reload;
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'backfill dispatcher' AND datname = 'postgres' AND wait_event_type = 'Lock'},
	'the dispatcher waits for a lock');
$node->append_conf('postgresql.conf', 'backfill.max_executors = 0');
$node->reload;
wait_until($node, 'postgres', 'SHOW backfill.max_executors', 'max_executors is set to 0', 0);
$session->query_safe('COMMIT');
wait_for_workers($node, 'executor', 'postgres', 0, 'all executors end');
$node->append_conf('postgresql.conf', "backfill.max_executors = 4\nbackfill.executor_idle_timeout = '1s'");
$node->reload;

# --- Rows that no commit announces.

$node->append_conf('postgresql.conf', "backfill.poll_interval = '200ms'");
$node->reload;
$session->query_safe('BEGIN');
$session->query_safe("SELECT job('prepared')");
$session->query_safe("SELECT job('prepared later', now() + interval '1 s')");
$session->query_safe("PREPARE TRANSACTION 'p'");
$node->safe_psql('postgres', "SELECT job('meanwhile')");
ran('meanwhile', 'others run meanwhile');
has_not_run('prepared', 'a prepared transaction keeps its job');
$session->query_safe("COMMIT PREPARED 'p'");
ran('prepared', 'the sweep finds the job of COMMIT PREPARED');
ran('prepared later', 'the sweep finds a prepared job that was not yet due');
$session->quit;

my $file = PostgreSQL::Test::Utils::tempdir() . '/rows';
$node->safe_psql(
	'postgres', qq{
	CREATE TEMP TABLE rows AS SELECT * FROM backfill.job WHERE payload->>'name' = 'far';
	UPDATE rows SET id = nextval('backfill.job_id_seq'), run_at = now(), payload = '{"name": "copied"}';
	COPY rows TO '$file';
	COPY backfill.job FROM '$file'});
ran('copied', 'the sweep finds rows that were copied into the table');

$node->stop;
check_log($node);
done_testing();

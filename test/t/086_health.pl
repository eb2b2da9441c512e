# health(): each finding, when there is something to find, and not otherwise.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('health',
	conf => "backfill.poll_interval = '50ms'\nmax_prepared_transactions = 5\nautovacuum_naptime = '1h'\nbackfill.metrics_max_label_sets = 100\nbackfill.cron_clock = external\n",
	init => { allows_streaming => 1 });
create_extension($node);
$node->safe_psql('postgres', q{
	CREATE FUNCTION run(payload jsonb) RETURNS void LANGUAGE sql AS '';
	SELECT backfill.register_task('run', 'run(jsonb)'), backfill.register_task('external');
});

# Assertions: the check comes to say this; and: nothing but these checks has a finding.
sub says
{
	my ($check, $like, $name, %params) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($server, $arguments) = ($params{server} // $node, $params{arguments} // '');
	return wait_until($server, 'postgres',
		"SELECT status || ': ' || coalesce(detail, '') || ' | ' || coalesce(hint, '') FROM backfill.health($arguments) WHERE check_name = '$check'",
		"$check: $name", $like);
}

sub findings
{
	my ($expected, $name, $server) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($server // $node, 'postgres',
		q{SELECT coalesce(string_agg(check_name, ' ' ORDER BY check_name), '') FROM backfill.health() WHERE status <> 'ok'}, $name, $expected);
}

findings('', 'a healthy queue has no findings');
is($node->safe_psql('postgres', 'SELECT string_agg(check_name, \' \') FROM backfill.health()'),
	'preloaded version launcher dispatcher executors worker_slots oldest_ready_job unregistered_tasks handlers hooks function_owners roles producers dead_letters'
	  . ' expired_leases paused_queues rate_windows ranges schedules dead_rows autovacuum metrics_labels set_aside triggers', 'the checks');
says('version', qr/^ok: library (\S+), extension \1 \|/, 'both versions');
says('worker_slots', qr/^ok: \d+ of 16 in use \|/, 'how many are in use');

# --- The triggers that tell of new settings: pg_restore --disable-triggers does this to them.
$node->safe_psql('postgres', 'ALTER TABLE backfill.task DISABLE TRIGGER ALL; ALTER TABLE backfill.task ENABLE TRIGGER ALL');
says('triggers', qr/^warning: .* of backfill.task \| ALTER TABLE backfill.task ENABLE ALWAYS TRIGGER config_changed;$/, 'no longer for replication');
findings('triggers', 'triggers: nothing else');
$node->safe_psql('postgres', 'ALTER TABLE backfill.task ENABLE ALWAYS TRIGGER config_changed');

# --- Identifiers in quotes are the same identifiers.
is($node->safe_psql('postgres', q{SET quote_all_identifiers = on; SELECT count(*) FROM backfill.health() WHERE status <> 'ok'}), '0', 'quote_all_identifiers');
is($node->safe_psql('postgres', q{SET quote_all_identifiers = on; SELECT handler_exists FROM backfill.tasks WHERE task_identifier = 'run'}), 't', 'the view of tasks quotes names, too');

# --- Jobs.

$node->safe_psql('postgres', q{SELECT backfill.enqueue('nameless'), backfill.enqueue('nameless'), backfill.enqueue('nowhere')});
says('unregistered_tasks', qr/^warning: .*: nameless \(2\), nowhere \(1\) \|/, 'their tasks and how many jobs they have');
findings('unregistered_tasks', 'unregistered_tasks: nothing else');
$node->safe_psql('postgres', q{SELECT backfill.cancel_job(id) FROM backfill.jobs});
says('oldest_ready_job', qr/^ok: no job is ready/, 'no job');
my $id = $node->safe_psql('postgres', q{SELECT backfill.enqueue('external', run_at => now() - interval '10 minutes')});
says('oldest_ready_job', qr/^warning: job $id since \d{4}-.*; no_consumer: .* \| backfill.why_not_running/, 'which, and why');
says('oldest_ready_job', qr/^ok: job $id since/, 'it may wait longer', arguments => "max_wait => '1 hour'");
findings('oldest_ready_job', 'oldest_ready_job: nothing else');
$node->safe_psql('postgres', "SELECT backfill.cancel_job($id)");

$node->safe_psql('postgres', q{SELECT backfill.pause_queue('closed'); SELECT backfill.enqueue('run', queue_name => 'closed', run_at => now() - interval '1 day')});
says('paused_queues', qr/^warning: jobs wait in paused queues: closed \(1\) \|/, 'a paused queue that has jobs');
findings('paused_queues', 'the jobs of a paused queue are not late');
$node->safe_psql('postgres', q{SELECT backfill.resume_queue('closed')});
findings('', 'resumed');

$node->safe_psql('postgres', q{
	CREATE FUNCTION fail(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
	SELECT backfill.register_task('fail', 'fail(jsonb)', max_attempts => 1);
	SELECT backfill.enqueue('fail'), backfill.enqueue('fail')});
says('dead_letters', qr/^warning: 2, the oldest since \d{4}-.*, the latest since \d{4}-.*: fail \(2\) \|/, 'how many and of which task');
$node->safe_psql('postgres', 'SELECT backfill.delete_dlq_job(id) FROM backfill.dlq');

# --- Handlers and roles.

$node->safe_psql('postgres', 'DROP FUNCTION fail(jsonb)');
says('handlers', qr/^critical: fail: public.fail does not exist \|/, 'a handler that was dropped');
$node->safe_psql('postgres', q{
	SELECT backfill.unregister_task('fail');
	CREATE ROLE worker LOGIN;
	SELECT backfill.register_task('as worker', 'run(jsonb)', run_as => 'worker');
	REVOKE EXECUTE ON FUNCTION run(jsonb) FROM PUBLIC});
says('handlers', qr/^critical: as worker: role worker may not execute public.run \|/, 'a handler that its role may not execute');
$node->safe_psql('postgres', 'GRANT EXECUTE ON FUNCTION run(jsonb) TO PUBLIC; REVOKE CONNECT ON DATABASE postgres FROM PUBLIC');
says('roles', qr/^critical: .*: worker may not CONNECT to the database \|/, 'a role without CONNECT');
$node->safe_psql('postgres', 'GRANT CONNECT ON DATABASE postgres TO PUBLIC; ALTER ROLE worker NOLOGIN');
SKIP:
{
	skip 'workers need no LOGIN', 1 if $node->pg_version >= 17;
	says('roles', qr/^critical: .*: worker has no LOGIN \|/, 'a role without LOGIN');
}
$node->safe_psql('postgres', 'ALTER ROLE worker LOGIN');
try_until(
	'roles: until the next try',
	sub {
		$node->safe_psql('postgres', q{REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; SELECT backfill.enqueue('as worker')});
		wait_until($node, 'postgres', 'SELECT cardinality(held_roles) > 0 FROM backfill._server_state()', 'a role is held');
		my $held = $node->safe_psql('postgres', q{GRANT CONNECT ON DATABASE postgres TO PUBLIC;
			SELECT detail FROM backfill.health() WHERE check_name = 'roles'});
		return ($held =~ /: worker: an executor could not log in, see the server's log$/, $held);
	});
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'the role can log in again');
findings('', 'when the role can log in, there is nothing to say');
$node->safe_psql('postgres', 'DROP ROLE worker');
says('roles', qr/^critical: .*: worker \(missing\) \|/, 'a role that is gone');
$node->safe_psql('postgres', q{SELECT backfill.unregister_task('as worker')});

# --- Schedules.

$node->safe_psql('postgres', q{SELECT backfill.schedule('hourly', '0 * * * *', 'run')});
findings('', 'a schedule whose clock ticks');
$node->safe_psql('postgres', q{UPDATE backfill.cron_schedule SET checked_until = now() - interval '1 hour'});
says('schedules', qr/^critical: the clock, which is external, has not ticked since \d{4}-.* \| backfill.cron_clock is external/, 'a clock that stands still');
$node->safe_psql('postgres', q{ALTER SYSTEM SET backfill.cron_clock = 'pg_cron'});
$node->reload;
says('schedules', qr/^critical: the server does not load pg_cron \| Call backfill.schedule/, 'because there is none');
$node->safe_psql('postgres', q{ALTER SYSTEM RESET backfill.cron_clock; UPDATE backfill.cron_schedule SET checked_until = now(), last_error = 'permission denied'});
$node->reload;
says('schedules', qr/^critical: hourly: the last tick could not enqueue, see last_error in backfill.schedules \|/, 'a tick that failed');
$node->safe_psql('postgres', q{DELETE FROM backfill.cron_schedule});

# --- Vacuum.

$node->safe_psql('postgres', 'VACUUM backfill.job');
findings('', 'dead_rows: none');
my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
my $pid = $reader->query_safe('SELECT pg_backend_pid()');
my $churn = q{INSERT INTO backfill.job (run_at, created_at, priority, attempts, max_attempts, free_retries, task_identifier, queue_name, payload)
	SELECT 'tomorrow', now(), 0, 0, 3, 0, 'run', '', '{}' FROM generate_series(1, 5000); DELETE FROM backfill.job; SELECT pg_stat_force_next_flush()};
$node->safe_psql('postgres', $churn);
says('dead_rows', qr/^ok: .* [1-9]\d* dead rows; the oldest snapshot is that of client backend $pid, user \S+, idle in transaction, \d+ transactions old, since \d{4}-/, 'few enough');
says('dead_rows', qr/^warning: .* of client backend $pid, .* \| Vacuum cannot remove rows/, 'too many, held by a session', arguments => 'max_dead_rows => 5000');
$reader->query_safe('COMMIT');
$reader->quit;
$node->safe_psql('postgres', q{BEGIN; CREATE TABLE unfinished (); PREPARE TRANSACTION 'forgotten'});
$node->safe_psql('postgres', $churn);
says('dead_rows', qr/^warning: .* of prepared transaction forgotten of \S+, /, 'held by a prepared transaction', arguments => 'max_dead_rows => 5000');
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'forgotten'});

$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', "hot_standby_feedback = on\nwal_receiver_status_interval = '1s'\nprimary_slot_name = 'standby_slot'\n");
$node->safe_psql('postgres', q{SELECT pg_create_physical_replication_slot('standby_slot')});
$standby->start;
wait_until($node, 'postgres', q{SELECT xmin IS NOT NULL FROM pg_replication_slots}, 'the standby reports its snapshots');
$node->safe_psql('postgres', $churn);
says('dead_rows', qr/^warning: .* of replication slot standby_slot \(active\), /, 'held by a slot', arguments => 'max_dead_rows => 5000');
is($standby->safe_psql('postgres', q{SELECT string_agg(check_name || ' ' || detail, '; ') FROM backfill.health() WHERE check_name IN ('launcher', 'dispatcher')}),
	'launcher a standby: jobs run on the primary', 'a standby says what it is');
findings('', 'and has no findings', $standby);
$standby->append_conf('postgresql.conf', "primary_slot_name = ''\n");
$standby->restart;
$node->safe_psql('postgres', q{SELECT pg_drop_replication_slot('standby_slot')});
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM pg_stat_replication WHERE backend_xmin IS NOT NULL}, 'the standby reports them without a slot');
$node->safe_psql('postgres', $churn);
says('dead_rows', qr/^warning: .* of standby \S+ \(hot_standby_feedback, walsender \d+\), /, 'held by a standby', arguments => 'max_dead_rows => 5000');
$standby->stop;
says('dead_rows', qr/^warning: backfill.job has some \d+ dead rows \| Nothing holds vacuum back/, 'dead rows that nothing holds', arguments => 'max_dead_rows => 5000');
$node->safe_psql('postgres', 'VACUUM backfill.job');
findings('', 'vacuumed');

$node->safe_psql('postgres', q{ALTER TABLE backfill.job SET (autovacuum_enabled = off)});
says('autovacuum', qr/^warning: autovacuum is turned off for backfill.job \|/, 'turned off for the table');
$node->safe_psql('postgres', q{ALTER TABLE backfill.job RESET (autovacuum_enabled)});
for my $setting ('autovacuum', 'track_counts')
{
	$node->safe_psql('postgres', "ALTER SYSTEM SET $setting = off");
	$node->reload;
	says('autovacuum', qr/^warning: $setting is off \|/, "$setting off");
	$node->safe_psql('postgres', "ALTER SYSTEM RESET $setting");
	$node->reload;
}
findings('', 'autovacuum: all settings on');

# --- Metrics.

$node->safe_psql('postgres', q{SELECT count(backfill.enqueue('run', queue_name => 'queue ' || i)) FROM generate_series(1, 150) i});
says('metrics_labels', qr/^warning: .* counted as "other" \| Raise backfill.metrics_max_label_sets/, 'too many queues');
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'the jobs in too many queues run');

# --- Workers.

$node->append_conf('postgresql.conf', "backfill.max_executors = 0\n");
$node->restart;
says('executors', qr/^warning: 0 of at most 0, 0 with a job \|/, 'none allowed');
$node->append_conf('postgresql.conf', "backfill.max_executors = 4\n");
$node->reload;
findings('', 'allowed again');
$node->safe_psql('postgres', q{UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'backfill'});
says('version', qr/^critical: library \S+, extension 0.0.1 \| Run ALTER EXTENSION/, 'another version than the library');
$node->safe_psql('postgres', q{UPDATE pg_extension SET extversion = backfill.version() WHERE extname = 'backfill'});

my ($launcher) = worker_pids($node, 'launcher');
kill 'STOP', $launcher;
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'backfill dispatcher'});
says('dispatcher', qr/^critical: no dispatcher runs in this database \|/, 'it has ended');
kill 'CONT', $launcher;
findings('', 'dispatcher: it is back');
$node->append_conf('postgresql.conf', "backfill.databases = 'elsewhere'\n");
$node->restart;
says('dispatcher', qr/^critical: backfill.databases does not name this database \|/, 'the database is not served');
$node->safe_psql('postgres', q{
	SELECT backfill.enqueue('external');
	SELECT claim_token FROM backfill.claim_jobs('consumer');
	UPDATE backfill.job SET lease_expires_at = now() - interval '1 minute'});
says('expired_leases', qr/^warning: 1 ran out, the first at \d{4}-.* \| The dispatcher does that/, 'leases that no process ends');
$node->append_conf('postgresql.conf', "backfill.databases = '*'\nmax_worker_processes = 3\n");
$node->restart;
$node->safe_psql('postgres', q{SELECT backfill.enqueue('run')});
says('worker_slots', qr/^warning: 3 of 3 in use: no executor can be started \|/, 'all in use');
$node->append_conf('postgresql.conf', "max_worker_processes = 2\n");
$node->restart;
says('worker_slots', qr/^warning: 2 of 2 in use/, 'also if not even the dispatcher could be started');
$node->append_conf('postgresql.conf', "max_worker_processes = 16\nshared_preload_libraries = ''\n");
$node->restart;
says('preloaded', qr/^critical: backfill is not in shared_preload_libraries/, 'the library is not preloaded');
is($node->safe_psql('postgres', q{SELECT string_agg(check_name, ' ') FROM backfill.health() WHERE status = 'critical'}), 'preloaded', 'a library that is not preloaded is the one thing to say about workers');

$node->stop;
check_log($node);
check_log($standby);
done_testing();

# Whose rights a job has, and what becomes of it when the role changes under it.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('roles', conf => "backfill.max_executors = 2\n");
create_extension($node);
my @roles = map { "role_$_" } 1 .. 6;
$node->safe_psql('postgres', "CREATE ROLE $_ LOGIN") for @roles;
$node->safe_psql(
	'postgres', q{
	CREATE TABLE seen (task text, role text, session_role text);
	GRANT INSERT ON seen TO PUBLIC;
	CREATE FUNCTION tell(payload jsonb) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO seen VALUES (payload->>'task', current_user, session_user) $$;
	CREATE FUNCTION busy(payload jsonb) RETURNS void LANGUAGE sql AS
		$$ SELECT pg_sleep(0.01); INSERT INTO seen VALUES ('busy', current_user, session_user) $$});

# More roles than executors, one of them with a long backlog: all get their turn.
for my $role (@roles)
{
	$node->safe_psql('postgres', "SELECT backfill.register_task('tell_$role', 'tell(jsonb)', run_as => '$role')");
}
$node->safe_psql('postgres', q{SELECT backfill.register_task('busy', 'busy(jsonb)', run_as => 'role_1')});
$node->safe_psql('postgres', q{SELECT count(*) FROM backfill.enqueue_many('busy', array_fill('{}'::jsonb, ARRAY[10000]))});
$node->safe_psql('postgres', "SELECT backfill.enqueue('tell_$_', '{\"task\": \"tell_$_\"}', priority => -5)") for @roles;
wait_until($node, 'postgres', q{SELECT count(*) = 6 FROM seen WHERE task <> 'busy'}, 'every role gets an executor');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM backfill.job'), '>', 0, 'while one still has a backlog');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM seen WHERE task <> 'busy' AND task = 'tell_' || role AND role = session_role}),
	6, 'each job ran as its role, which was the session user');
$node->safe_psql('postgres', q{DELETE FROM backfill.job WHERE task_identifier = 'busy'});

# All of them have work all the time, each job enqueues the next: all of them make progress.
$node->safe_psql('postgres', q{
	CREATE FUNCTION tick(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO seen VALUES ('tick', current_user, session_user);
		PERFORM pg_sleep(0.001);
		PERFORM backfill.enqueue(payload->>'task', payload);
	END $$});
for my $role (@roles)
{
	$node->safe_psql('postgres', "SELECT backfill.grant_producer('$role'), backfill.register_task('tick_$role', 'tick(jsonb)', run_as => '$role')");
}
$node->safe_psql('postgres', "SELECT backfill.enqueue('tick_$_', '{\"task\": \"tick_$_\"}')") for @roles;
wait_until($node, 'postgres', q{SELECT count(*) = 6 FROM (SELECT role FROM seen WHERE task = 'tick' GROUP BY role HAVING count(*) > 20) r},
	'six roles that always have work share two executors');
$node->safe_psql('postgres', "SELECT backfill.unregister_task('tick_$_')") for @roles;

# What the role or the database sets for its sessions holds for its jobs, but cannot make them
# fail or run in another kind of transaction.
$node->safe_psql('postgres', q{
	CREATE TABLE setting (name text, value text);
	GRANT INSERT ON setting TO PUBLIC;
	CREATE FUNCTION show(payload jsonb) RETURNS void LANGUAGE sql AS $$
		INSERT INTO setting SELECT name, current_setting(name) FROM unnest(ARRAY['work_mem', 'search_path', 'transaction_isolation',
			'transaction_read_only', 'transaction_deferrable', 'application_name']) name;
		SELECT pg_sleep(0.05) $$;
	CREATE ROLE particular LOGIN;
	ALTER ROLE particular SET work_mem = '7MB';
	ALTER ROLE particular SET search_path = somewhere, pg_catalog;
	ALTER ROLE particular SET default_transaction_isolation = 'serializable';
	ALTER ROLE particular SET default_transaction_read_only = on;
	ALTER ROLE particular SET default_transaction_deferrable = on;
	ALTER ROLE particular SET statement_timeout = 1;
	ALTER ROLE particular SET idle_in_transaction_session_timeout = 1;
	ALTER ROLE particular SET application_name = 'particular';
	CREATE SCHEMA somewhere;
	GRANT USAGE ON SCHEMA somewhere TO particular;
	ALTER FUNCTION show(jsonb) SET SCHEMA somewhere;
	ALTER TABLE setting SET SCHEMA somewhere;
	SELECT backfill.register_task('show', 'somewhere.show(jsonb)', run_as => 'particular');
	SELECT backfill.enqueue('show')});
wait_until($node, 'postgres', q{SELECT count(*) = 6 FROM somewhere.setting}, 'a job of a role with settings of its own runs');
is($node->safe_psql('postgres', q{SELECT string_agg(value, '|' ORDER BY name) FROM somewhere.setting}),
	'backfill executor|somewhere, pg_catalog|off|read committed|off|7MB', 'the job of a role with settings of its own runs in the right kind of transaction');

# A role that becomes another one when it logs in: its jobs run, as itself.
$node->safe_psql('postgres', q{
	CREATE ROLE owning; CREATE ROLE changing LOGIN IN ROLE owning; ALTER ROLE changing SET role = 'owning';
	SELECT backfill.register_task('changing', 'tell(jsonb)', run_as => 'changing');
	SELECT backfill.enqueue('changing', '{"task": "changing"}')});
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM seen WHERE task = 'changing'}, 'a job of a role with ALTER ROLE ... SET role runs');
is($node->safe_psql('postgres', q{SELECT role, session_role FROM seen WHERE task = 'changing'}), 'changing|changing', 'a job of a role with ALTER ROLE ... SET role runs as that role');

# The role is dropped: dead letters that say so; registered again, they run.
$node->safe_psql('postgres', 'DROP OWNED BY role_2; DROP ROLE role_2');
$node->safe_psql('postgres', q{SELECT backfill.enqueue('tell_role_2', '{"task": "dropped"}')});
wait_until($node, 'postgres', 'SELECT count(*) = 1 FROM backfill.dlq', 'the job of a dropped role is dead-lettered');
like($node->safe_psql('postgres', 'SELECT failure_reason FROM backfill.dlq'),
	qr/role "role_2" of task "tell_role_2" does not exist/, 'the dead letter of a dropped role says why');
$node->safe_psql('postgres', q{SELECT backfill.register_task('tell_role_2', 'tell(jsonb)', run_as => 'role_3')});
$node->safe_psql('postgres', 'SELECT backfill.requeue_dlq_job(id) FROM backfill.dlq');
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM seen WHERE task = 'dropped' AND role = 'role_3'},
	'registered with another role and requeued, it runs');

# The role may not log in: its jobs wait, one warning says so; LOGIN again, they run.
SKIP:
{
	skip 'workers log in as any role', 11 if $node->pg_version >= 17;
	my ($code, undef, $err) = $node->psql('postgres',
		q{CREATE ROLE sleeper; SELECT backfill.register_task('s', 'tell(jsonb)', run_as => 'sleeper')});
	like($err, qr/run_as role "sleeper" cannot log in.*HINT/s, 'a role without LOGIN is refused, with a hint');
	$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM backfill.workers WHERE role = 'role_4'});
	wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM backfill.workers WHERE role = 'role_4'},
		'role_4 has no executor');
	my $position = log_position($node);
	$node->safe_psql('postgres', 'ALTER ROLE role_4 NOLOGIN');
	$node->safe_psql('postgres', q{SELECT backfill.enqueue('tell_role_4', '{"task": "waits"}')});
	$node->wait_for_log(qr/WARNING:.*could not start an executor as role "role_4"/, $position);
	$node->safe_psql('postgres', q{SELECT backfill.enqueue('tell_role_5', '{"task": "others"}')});
	wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM seen WHERE task = 'others'}, 'other roles go on');
	is($node->safe_psql('postgres', q{SELECT state FROM backfill.jobs WHERE task_identifier = 'tell_role_4'}),
		'ready', 'the job of a role that cannot log in waits');
	$node->safe_psql('postgres', 'ALTER ROLE role_4 LOGIN');
	wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM seen WHERE task = 'waits'}, 'LOGIN again, it runs');
	is(scalar(log_lines($node, qr/WARNING:.*could not start an executor/, $position)), 1, 'a role that cannot log in is one warning');

	# One that logged in before is still at work: the pauses between the tries grow all the same.
	$position = log_position($node);
	my $gate = $node->background_psql('postgres');
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	$node->safe_psql('postgres', q{
		CREATE FUNCTION pass(payload jsonb) RETURNS void LANGUAGE sql AS
			$$ SELECT pg_advisory_xact_lock_shared(1); INSERT INTO seen VALUES ('pass', current_user, session_user) $$;
		SELECT backfill.register_task('pass', 'pass(jsonb)', run_as => 'role_4');
		SELECT backfill.enqueue('pass')});
	wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM backfill.jobs WHERE task_identifier = 'pass' AND state = 'running'}, 'a job of role_4 runs');
	# A second executor may have come for the first job; it would take the next one.
	$node->safe_psql('postgres', 'ALTER ROLE role_4 NOLOGIN');
	$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM backfill.workers WHERE role = 'role_4' AND job_id IS NULL});
	wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM backfill.workers WHERE role = 'role_4'}, 'one executor of role_4 is left');
	$node->safe_psql('postgres', q{SELECT backfill.enqueue('pass')});
	wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM backfill.jobs WHERE task_identifier = 'pass' AND state = 'ready'}, 'another job of role_4 waits');
	$node->wait_for_log(qr/FATAL:.*role "role_4" is not permitted to log in.*FATAL:.*role "role_4" is not permitted to log in/s, $position);
	cmp_ok(scalar(log_lines($node, qr/WARNING:.*could not start an executor/, $position)), '<=', 1, 'two tries to start an executor are one warning');
	$node->safe_psql('postgres', 'ALTER ROLE role_4 LOGIN');
	$gate->quit;
	wait_until($node, 'postgres', q{SELECT count(*) = 2 FROM seen WHERE task = 'pass'}, 'both jobs of role_4 run in the end');
}

# The same for a role that may not connect to the database.
{
	my $position = log_position($node);
	$node->safe_psql('postgres', q{
		REVOKE CONNECT ON DATABASE postgres FROM PUBLIC;
		GRANT CONNECT ON DATABASE postgres TO role_1, role_3, role_4, role_5;
		SELECT pg_terminate_backend(pid) FROM backfill.workers WHERE role = 'role_6'});
	wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM backfill.workers WHERE role = 'role_6'},
		'role_6 has no executor');
	$node->safe_psql('postgres', q{SELECT backfill.enqueue('tell_role_6', '{"task": "kept out"}')});
	$node->wait_for_log(qr/WARNING:.*could not start an executor as role "role_6"/, $position);
	$node->safe_psql('postgres', q{SELECT backfill.enqueue('tell_role_1', '{"task": "others again"}')});
	wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM seen WHERE task = 'others again'}, 'other roles go on');
	is($node->safe_psql('postgres', q{SELECT state, attempts FROM backfill.jobs WHERE task_identifier = 'tell_role_6'}), 'ready|0', 'the job of the role without CONNECT waits');
	$node->safe_psql('postgres', 'GRANT CONNECT ON DATABASE postgres TO PUBLIC');
	wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM seen WHERE task = 'kept out'}, 'CONNECT again, it runs');
	is(scalar(log_lines($node, qr/WARNING:.*could not start an executor/, $position)), 1, 'a role that may not connect is one warning');
}

# The handler is dropped, or taken away from the role: permanent errors that say so.
$node->safe_psql('postgres', q{
	CREATE FUNCTION gone(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
	CREATE FUNCTION withheld(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
	SELECT backfill.register_task('gone', 'gone(jsonb)'), backfill.register_task('withheld', 'withheld(jsonb)', run_as => 'role_5');
	DROP FUNCTION gone;
	REVOKE EXECUTE ON FUNCTION withheld FROM PUBLIC;
	SELECT backfill.enqueue('gone'), backfill.enqueue('withheld')});
wait_until($node, 'postgres', q{SELECT count(*) = 2 FROM backfill.dlq}, 'both jobs of a handler that is gone are dead letters');
is( $node->safe_psql('postgres',
		q{SELECT task_identifier, last_error->>'sqlstate', last_error->>'message' FROM backfill.dlq ORDER BY 1}),
	'gone|42883|handler public.gone(jsonb) of task "gone" does not exist
withheld|42501|role "role_5" may not execute handler public.withheld(jsonb) of task "withheld"',
	'the dead letters have the reason');

# No role registers a task that runs as a role of which it is no member.
$node->safe_psql('postgres', q{CREATE ROLE registrar LOGIN; SELECT backfill.grant_admin('registrar')});
my ($code, undef, $err) = $node->psql('postgres',
	q{SELECT backfill.register_task('x', 'tell(jsonb)', run_as => 'role_1')}, extra_params => [ '-U', 'registrar' ]);
like($err, qr/permission denied to register a task that runs as role "role_1"/, 'run_as needs membership');

# Executors commit as the setting says, whatever the role's own says; a change replaces them.
sub commits_with
{
	my ($value) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql('postgres', "ALTER SYSTEM SET backfill.executor_synchronous_commit = '$value'");
	$node->reload;
	wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM backfill.workers WHERE role = 'committer'}, 'no executor has an older value of executor_synchronous_commit');
	$node->safe_psql('postgres', q{TRUNCATE level; SELECT backfill.enqueue('level')});
	wait_until($node, 'postgres', 'SELECT count(*) = 1 FROM level', "a job runs with executor_synchronous_commit = $value");
	return $node->safe_psql('postgres', 'SELECT value FROM level');
}
$node->safe_psql('postgres', q{
	CREATE TABLE level (value text);
	CREATE ROLE committer LOGIN;
	ALTER ROLE committer SET synchronous_commit = 'local';
	GRANT INSERT ON level TO committer;
	CREATE FUNCTION show_level(payload jsonb) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO level VALUES (current_setting('synchronous_commit')) $$;
	SELECT backfill.register_task('level', 'show_level(jsonb)', run_as => 'committer')});
is(commits_with('default'), 'local', 'default leaves it to the role');
is(commits_with('off'), 'off', 'off');
is(commits_with('remote_write'), 'remote_write', 'remote_write');
is(commits_with('default'), 'local', 'executor_synchronous_commit is default again');
isnt($node->psql('postgres', "SET backfill.executor_synchronous_commit = 'off'"), 0, 'a session cannot set it');

# A long list of tasks is in a TOAST table, like every long value. Executors and dispatchers read their
# settings with no snapshot of their own.
$node->safe_psql('postgres', q{
	SET client_min_messages = warning;
	CREATE ROLE tenant;
	SELECT backfill.grant_producer('tenant', ARRAY(SELECT md5(g::text) || md5(random()::text) FROM generate_series(1, 500) g));
	INSERT INTO backfill.error_rule (message_contains, decision) SELECT string_agg(md5(random()::text), ''), 'retry' FROM generate_series(1, 200)});
is($node->safe_psql('postgres', q{SELECT count(*) > 1 FROM pg_class c, LATERAL (SELECT pg_relation_size(reltoastrelid) AS size) t
	 WHERE c.relname IN ('producer', 'error_rule') AND relnamespace = 'backfill'::regnamespace AND t.size > 0}), 't', 'the long values are in TOAST tables');
for my $round (1 .. 3)
{
	$node->safe_psql('postgres', q{TRUNCATE level; SELECT backfill.enqueue('level')});
	wait_until($node, 'postgres', 'SELECT count(*) = 1 FROM level', "a job runs beside long settings, round $round");
	$node->restart;
}
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM backfill.workers WHERE kind = 'dispatcher'}, 'the dispatcher runs');
$node->safe_psql('postgres', q{DELETE FROM backfill.error_rule WHERE length(message_contains) > 1000});
$node->safe_psql('postgres', q{TRUNCATE level; SELECT backfill.enqueue('level')});
wait_until($node, 'postgres', 'SELECT count(*) = 1 FROM level', 'a job runs after the settings have changed');
is($node->safe_psql('postgres', q{SELECT status FROM backfill.health() WHERE check_name = 'set_aside'}), 'ok', 'nothing is set aside');
unlike(slurp_file($node->logfile), qr/toast data/, 'the settings could be read');

$node->stop;
check_log($node);
done_testing();

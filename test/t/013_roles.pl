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
	CREATE TABLE seen (task text, who text, session_who text);
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
$node->safe_psql('postgres', q{SELECT count(*) FROM backfill.enqueue_many('busy', array_fill('{}'::jsonb, ARRAY[3000]))});
$node->safe_psql('postgres', "SELECT backfill.enqueue('tell_$_', '{\"task\": \"tell_$_\"}', priority => -5)") for @roles;
wait_until($node, 'postgres', q{SELECT count(*) = 6 FROM seen WHERE task <> 'busy'}, 'every role gets an executor');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM backfill.job'), '>', 0, 'while one still has a backlog');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM seen WHERE task <> 'busy' AND task = 'tell_' || who AND who = session_who}),
	6, 'each job ran as its role, which was the session user');
$node->safe_psql('postgres', q{DELETE FROM backfill.job WHERE task_identifier = 'busy'});

# The role is dropped: dead letters that say so; registered again, they run.
$node->safe_psql('postgres', 'DROP ROLE role_2');
$node->safe_psql('postgres', q{SELECT backfill.enqueue('tell_role_2', '{"task": "dropped"}')});
wait_until($node, 'postgres', 'SELECT count(*) = 1 FROM backfill.dlq', 'the job of a dropped role is dead-lettered');
like($node->safe_psql('postgres', 'SELECT failure_reason FROM backfill.dlq'),
	qr/role "role_2" of task "tell_role_2" does not exist/, 'and says why');
$node->safe_psql('postgres', q{SELECT backfill.register_task('tell_role_2', 'tell(jsonb)', run_as => 'role_3')});
$node->safe_psql('postgres', 'SELECT backfill.requeue_dlq_job(id) FROM backfill.dlq');
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM seen WHERE task = 'dropped' AND who = 'role_3'},
	'registered with another role and requeued, it runs');

# The role may not log in: its jobs wait, one warning says so; LOGIN again, they run.
SKIP:
{
	skip 'workers log in as any role', 7 if $node->pg_version >= 17;
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
		'ready', 'its job waits');
	$node->safe_psql('postgres', 'ALTER ROLE role_4 LOGIN');
	wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM seen WHERE task = 'waits'}, 'LOGIN again, it runs');
	is(scalar(log_lines($node, qr/WARNING:.*could not start an executor/, $position)), 1, 'one warning');
}

# The handler is dropped, or taken away from the role: permanent errors that say so.
$node->safe_psql('postgres', q{
	CREATE FUNCTION gone(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
	CREATE FUNCTION withheld(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
	SELECT backfill.register_task('gone', 'gone(jsonb)'), backfill.register_task('withheld', 'withheld(jsonb)', run_as => 'role_5');
	DROP FUNCTION gone;
	REVOKE EXECUTE ON FUNCTION withheld FROM PUBLIC;
	SELECT backfill.enqueue('gone'), backfill.enqueue('withheld')});
wait_until($node, 'postgres', q{SELECT count(*) = 2 FROM backfill.dlq}, 'both jobs are dead letters');
is( $node->safe_psql('postgres',
		q{SELECT task_identifier, last_error->>'sqlstate', last_error->>'message' FROM backfill.dlq ORDER BY 1}),
	'gone|42883|handler public.gone(jsonb) of task "gone" does not exist
withheld|42501|role "role_5" may not execute handler public.withheld(jsonb) of task "withheld"',
	'with the reason');

# Nobody registers a task that runs as a role he is no member of.
$node->safe_psql('postgres', q{CREATE ROLE registrar LOGIN; SELECT backfill.grant_admin('registrar')});
my ($code, undef, $err) = $node->psql('postgres',
	q{SELECT backfill.register_task('x', 'tell(jsonb)', run_as => 'role_1')}, extra_params => [ '-U', 'registrar' ]);
like($err, qr/permission denied to register a task that runs as role "role_1"/, 'run_as needs membership');

$node->stop;
check_log($node);
done_testing();

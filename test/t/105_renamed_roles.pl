# What a renamed role owns here stays its own, while workers run; what a dropped one had passes to
# no role that is made with its name.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('renamed_roles', conf => "backfill.max_executors = 2\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE ROLE app LOGIN;
	CREATE TABLE seen (what text, role name);
	GRANT INSERT ON seen TO PUBLIC;
	CREATE FUNCTION tell(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen VALUES (payload->>'what', current_user) $$;
	-- Runs until it gets the lock.
	CREATE FUNCTION pass(payload jsonb) RETURNS void LANGUAGE sql AS
		$$ SELECT pg_advisory_xact_lock_shared(1); INSERT INTO seen VALUES ('pass', current_user) $$;
	-- Enqueues another job with the rights of its own role.
	CREATE FUNCTION go_on(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT backfill.enqueue('tell', '{"what": "follow-up"}') $$;
	SELECT backfill.register_task('tell', 'tell(jsonb)', run_as => 'app'), backfill.register_task('pass', 'pass(jsonb)', run_as => 'app'),
		backfill.register_task('go_on', 'go_on(jsonb)', run_as => 'app');
	SELECT backfill.grant_producer('app', '{tell}')});

my $dead = q{SELECT string_agg(task_identifier || ': ' || failure_reason, ', ') FROM backfill.dlq};

# A rename beneath an executor that is at work, and beneath a backlog.
my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', q{SELECT backfill.enqueue('pass')});
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM backfill.jobs WHERE task_identifier = 'pass' AND state = 'running'}, 'a job runs');
$node->safe_psql('postgres', q{BEGIN; ALTER ROLE app RENAME TO app_renamed; CREATE ROLE app LOGIN;
	SELECT count(*) FROM backfill.enqueue_many('tell', array_fill('{"what": "backlog"}'::jsonb, ARRAY[50])); SELECT backfill.enqueue('go_on'); COMMIT});
$gate->query_safe('SELECT pg_advisory_unlock(1)');
wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM backfill.job}, 'all jobs of the renamed role end');
is($node->safe_psql('postgres', $dead), '', 'no job of the renamed role is dead');
is($node->safe_psql('postgres', q{SELECT what, role, count(*) FROM seen WHERE what <> 'pass' GROUP BY 1, 2 ORDER BY 1}),
	"backlog|app_renamed|50\nfollow-up|app_renamed|1", 'jobs ran as the renamed role, and what they enqueued as well');
is($node->safe_psql('postgres', q{SELECT DISTINCT run_as FROM backfill.tasks}), 'app_renamed', 'the tasks show its name of now');
is($node->safe_psql('postgres', q{SELECT DISTINCT role FROM backfill.workers WHERE kind = 'executor' AND role <> 'app_renamed'}),
	'', 'no executor has come for the role that has its old name');

# No limit that it had is gone, none of its rights are the other role's.
my ($code, undef, $err) = $node->psql('postgres', q{SELECT backfill.enqueue('pass')}, extra_params => [ '-U', 'app_renamed' ]);
like($err, qr/permission denied to enqueue task "pass"/, 'the renamed role is as limited as before');
$node->safe_psql('postgres', q{GRANT USAGE ON SCHEMA backfill TO app; GRANT EXECUTE ON FUNCTION backfill.enqueue TO app});
($code, undef, $err) = $node->psql('postgres', q{SELECT backfill.enqueue('tell')}, extra_params => [ '-U', 'app' ]);
like($err, qr/permission denied to enqueue task "tell".*grant_producer/s, 'the role with its old name may enqueue nothing');

# Dropped, and made again: another role, which runs nothing.
$node->safe_psql('postgres', q{TRUNCATE seen; DROP OWNED BY app_renamed; DROP ROLE app_renamed; CREATE ROLE app_renamed LOGIN;
	SELECT count(*) FROM backfill.enqueue_many('tell', array_fill('{"what": "not theirs"}'::jsonb, ARRAY[5]))});
wait_until($node, 'postgres', q{SELECT count(*) = 5 FROM backfill.dlq}, 'jobs of a role that was dropped become dead letters');
is($node->safe_psql('postgres', 'SELECT count(*) FROM seen'), 0, 'no role that has the dropped one\'s name now runs its jobs');
like($node->safe_psql('postgres', q{SELECT DISTINCT failure_reason FROM backfill.dlq}), qr/role "app" of task "tell" does not exist/, 'the dead letters say that the role does not exist');
is($node->safe_psql('postgres', q{SELECT DISTINCT run_as FROM backfill.tasks}), 'app (missing)', 'the view says that the role is missing');
is($node->safe_psql('postgres', q{SELECT status, detail FROM backfill.health() WHERE check_name = 'roles'}),
	'critical|no executor can log in as the roles of some tasks: app (missing)', 'health() says that the role is missing');
$node->safe_psql('postgres', q{SELECT backfill.register_task('tell', 'tell(jsonb)', run_as => 'app_renamed'); SELECT backfill.requeue_dlq_job(id) FROM backfill.dlq});
wait_until($node, 'postgres', q{SELECT count(*) = 5 FROM seen WHERE role = 'app_renamed'}, 'registered again, the task runs as the new role');

# A handler that another role has made again is refused by executors, and why_not_running() knows.
$node->safe_psql('postgres', q{
	CREATE ROLE mallory; CREATE SCHEMA shared; GRANT ALL ON SCHEMA shared TO mallory; GRANT USAGE ON SCHEMA shared TO app_renamed;
	CREATE FUNCTION shared.act(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen VALUES ('act', current_user) $$;
	SELECT backfill.register_task('act', 'shared.act(jsonb)', run_as => 'app_renamed');
	SELECT backfill.enqueue('act')});
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM seen WHERE what = 'act'}, 'the handler of a superuser runs');
$node->safe_psql('postgres', q{DROP FUNCTION shared.act; SET ROLE mallory;
	CREATE FUNCTION shared.act(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen VALUES ('stolen', current_user) $$;
	RESET ROLE; SELECT backfill.enqueue('act')});
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM backfill.dlq WHERE task_identifier = 'act'
	AND failure_reason ~ 'belongs to role "mallory" now, which may not act as role "app_renamed"'}, 'made again by another role, its jobs become dead letters');
is($node->safe_psql('postgres', q{SELECT count(*) FROM seen WHERE what = 'stolen'}), 0, 'the code of the handler\'s new owner has not run');

$node->stop;
check_log($node);
done_testing();

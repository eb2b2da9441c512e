# A dump names roles, and a restore finds them by name: in a cluster where they have other oids,
# and where one is missing. What belongs to a missing role stays closed to a role that gets its name.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $source = preloaded('source', conf => "backfill.max_executors = 0\nbackfill.cron_clock = external\n");
create_extension($source);
$source->safe_psql(
	'postgres', q{
	CREATE ROLE app LOGIN; CREATE ROLE gone LOGIN; CREATE ROLE dropped LOGIN;
	CREATE TABLE seen (what text, role name);
	GRANT INSERT ON seen TO PUBLIC;
	CREATE FUNCTION tell(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen VALUES (payload->>'what', current_user) $$;
	CREATE FUNCTION watch(event jsonb) RETURNS void LANGUAGE sql AS '';
	SELECT backfill.register_task('app', 'tell(jsonb)', run_as => 'app'), backfill.register_task('gone', 'tell(jsonb)', run_as => 'gone'),
		backfill.register_task('dropped', 'tell(jsonb)', run_as => 'dropped');
	SELECT backfill.grant_producer('app', '{app}'), backfill.grant_producer('gone', '{gone}'), backfill.grant_producer('dropped');
	SELECT backfill.register_hook('job_start', 'watch(jsonb)', run_as => 'gone');
	GRANT EXECUTE ON FUNCTION backfill.schedule, backfill.unschedule TO gone; SET ROLE gone;
	SELECT backfill.schedule('theirs', '* * * * *', 'gone');
	RESET ROLE;
	SELECT backfill.enqueue('app', '{"what": "app"}'), backfill.enqueue('gone', '{"what": "gone"}'), backfill.enqueue('dropped', '{"what": "dropped"}');
	DROP OWNED BY dropped; DROP ROLE dropped; CREATE ROLE dropped LOGIN;
	ALTER ROLE app RENAME TO application;
});
my $roles = q{SELECT 'task ' || task_identifier || ': ' || run_as::text FROM backfill.task
	UNION ALL SELECT 'producer: ' || role_name::text FROM backfill.producer
	UNION ALL SELECT 'hook: ' || run_as::text FROM backfill.hook UNION ALL SELECT 'schedule: ' || scheduled_by::text FROM backfill.cron_schedule ORDER BY 1};
is($source->safe_psql('postgres', $roles), join("\n", 'hook: gone', 'producer: application', 'producer: dropped (missing)', 'producer: gone', 'schedule: gone',
	'task app: application', 'task dropped: dropped (missing)', 'task gone: gone'), 'before: a renamed role, a dropped one, and one that the other cluster will not have');

# Other oids; roles whose names the dump has, but not "gone".
my $target = preloaded('target', conf => "backfill.max_executors = 0\nbackfill.cron_clock = external\n");
$target->safe_psql('postgres', 'CREATE ROLE ' . $_) for map { "filler_$_" } 1 .. 7;
$target->safe_psql('postgres', 'CREATE ROLE application LOGIN; CREATE ROLE dropped LOGIN; CREATE ROLE app LOGIN');
my $restored = join("\n", 'hook: gone (missing)', 'producer: application', 'producer: dropped (missing)', 'producer: gone (missing)', 'schedule: gone (missing)',
	'task app: application', 'task dropped: dropped (missing)', 'task gone: gone (missing)');

for my $format ('plain', 'custom')
{
	my $db = "restored_$format";
	my $file = PostgreSQL::Test::Utils::tempdir() . '/dump';
	$source->command_ok([ 'pg_dump', '-F', $format, '-f', $file, '-d', $source->connstr('postgres') ], "$format: pg_dump");
	$target->safe_psql('postgres', "CREATE DATABASE $db");
	# GRANTs to the role that is missing fail, as in any restore; nothing else does.
	my ($out, $err) = run_command($format eq 'plain' ? [ 'psql', '-Xq', '-f', $file, '-d', $target->connstr($db) ]
		: [ 'pg_restore', $file, '-d', $target->connstr($db) ]);
	my @errors = grep { /ERROR/ && !/role "gone" does not exist/ } split /\n/, $err;
	is("@errors", '', "$format: only the grants of the missing role fail");
	is($target->safe_psql($db, $roles), $restored, "$format: every row is there, with the role it had");
	is($target->safe_psql($db, q{SELECT (SELECT count(*) FROM backfill.job) + (SELECT count(*) FROM backfill.dlq)}), 3, "$format: and every job, be it a dead letter by now");
}

# A role that is made later with that name has nothing of it, until it is granted again.
my $db = 'restored_custom';
$target->safe_psql('postgres', 'CREATE ROLE gone LOGIN');
is($target->safe_psql($db, $roles), $restored, 'a role that is made later is not the missing one');
$target->safe_psql($db, q{GRANT USAGE ON SCHEMA backfill TO gone; GRANT EXECUTE ON FUNCTION backfill.enqueue TO gone});
my ($code, undef, $err) = $target->psql($db, q{SELECT backfill.enqueue('gone')}, extra_params => [ '-U', 'gone' ]);
like($err, qr/permission denied to enqueue task "gone".*grant_producer/s, 'a role made later may not enqueue');
like($target->safe_psql($db, q{SELECT string_agg(check_name || ': ' || detail, E'\n' ORDER BY check_name) FROM backfill.health() WHERE check_name IN ('hooks', 'producers', 'roles') AND status <> 'ok'}),
	qr/\Ahooks: job_start: role gone \(missing\)\nproducers: .* that may enqueue no task: gone\nroles: .*: dropped \(missing\), gone \(missing\)\z/, 'health() names what waits for a role');
is($target->safe_psql($db, q{SELECT backfill._cron_tick(checked_until + interval '2 minutes') FROM backfill.cron_schedule}), 0, 'the schedule of a missing role enqueues nothing');
like($target->safe_psql($db, q{SELECT last_error FROM backfill.schedules}), qr/role "gone" does not exist/, 'the schedule of a missing role says why');

$target->safe_psql('postgres', 'ALTER SYSTEM SET backfill.max_executors = 2');
$target->reload;
wait_until($target, $db, q{SELECT count(*) = 2 FROM backfill.dlq}, 'jobs of roles that are missing become dead letters');
wait_until($target, $db, q{SELECT string_agg(what || ' as ' || role, ',') = 'app as application' FROM seen}, 'jobs of the renamed role run');
$target->safe_psql($db, q{SELECT backfill.register_task('gone', 'tell(jsonb)', run_as => 'gone'), backfill.grant_producer('gone', '{gone}');
	SELECT backfill.requeue_dlq_job(id) FROM backfill.dlq WHERE task_identifier = 'gone'});
wait_until($target, $db, q{SELECT count(*) = 1 FROM seen WHERE role = 'gone'}, 'registered again, its jobs run');
$target->safe_psql($db, q{SELECT backfill.enqueue('gone')}, extra_params => [ '-U', 'gone' ]);
is($target->safe_psql($db, q{SELECT string_agg(role_name::text, ', ' ORDER BY role_name::text) FROM backfill.producer}), 'application, gone', 'granted again, it enqueues');

# Binary copies carry names as well.
my $binary = PostgreSQL::Test::Utils::tempdir() . '/binary';
$source->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $source->connstr('postgres'), '-c', "\\copy backfill.producer TO '$binary' (FORMAT binary)" ], 'a binary copy');
$target->safe_psql('postgres', 'CREATE DATABASE by_binary');
create_extension($target, 'by_binary');
$target->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $target->connstr('by_binary'), '-c', "\\copy backfill.producer FROM '$binary' (FORMAT binary)" ], 'into the other cluster');
is($target->safe_psql('by_binary', q{SELECT string_agg(role_name::text, ', ' ORDER BY role_name::text) FROM backfill.producer}),
	'application, dropped (missing), gone', 'the restored rows name the roles');

$source->stop;
$target->stop;
check_log($_) for ($source, $target);
done_testing();

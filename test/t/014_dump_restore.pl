# A dump and restore loses no task, setting, job or dead letter, and restored jobs run.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

# Nothing changes between a dump and a look at it, however long that takes: the dispatcher would forget empty queues.
my $node = preloaded('dump', conf => "backfill.max_executors = 0\nbackfill.cron_clock = external\nbackfill.dlq_processor_interval = '1d'\n");
$node->safe_psql('postgres', 'CREATE DATABASE source');
create_extension($node, 'source');
$node->safe_psql(
	'source', q{
	CREATE ROLE producer;
	CREATE TABLE done (what text);
	CREATE FUNCTION work(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO done VALUES (payload->>'what') $$;
	CREATE FUNCTION broken(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM 1 / 0; END $$;
	SELECT backfill.set_retry_policy('mine', 4, '1 s', '1 min', 3, 0.2), backfill.set_retry_policy('default', initial_delay => '2 s');
	SELECT backfill.register_task('work', 'work(jsonb)', queue_name => 'q', priority => 3, max_attempts => 5,
		retry_policy => 'mine', timeout => '1 min', notify_channel => 'c');
	SELECT backfill.register_task('broken', 'broken(jsonb)'), backfill.register_task('outside');
	SELECT backfill.grant_producer('producer', '{work}');
	SELECT backfill.schedule('monthly', '@monthly', 'work', '{"what": "monthly"}', time_zone => 'Europe/Berlin', fill => '1 day');
	CREATE FUNCTION watch(event jsonb) RETURNS void LANGUAGE sql AS '';
	SELECT backfill.register_hook('job_start', 'watch(jsonb)', 'work', run_as => 'producer');
	SELECT backfill.enqueue('broken');
	CALL backfill.process_available_jobs();
	SELECT backfill.enqueue_serial('work', '{"what": "ready"}', 'serial', job_key => 'key');
	SELECT backfill.enqueue('work', '{"what": "later"}', run_at => '2100-01-01');
	SELECT backfill.enqueue('outside', '{"what": "outside"}', priority => -20);
});

# Everything there is, in order: the rows of all our tables, where the sequences stand, and rights.
my $everything = join(
	' UNION ALL ',
	split(
		/\n/,
		$node->safe_psql(
			'source', q{SELECT format('SELECT %L, r::text FROM %s r', relname, oid::regclass) FROM pg_class
				WHERE relnamespace = 'backfill'::regnamespace AND relkind = 'r' ORDER BY relname})),
	q{SELECT 'rights', has_function_privilege('producer', 'backfill.enqueue_fast(text, jsonb, text)', 'EXECUTE')::text},
	q{SELECT 'sequences', (SELECT last_value >= 4 FROM backfill.job_id_seq)::text}) . ' ORDER BY 1, 2';
my $expected = $node->safe_psql('source', $everything);
my $kinds = $node->safe_psql('source',
	"SELECT string_agg(kind || ' ' || n, ', ' ORDER BY kind) FROM (SELECT kind, count(*) AS n FROM ($everything) e(kind, row) GROUP BY kind) k");
like($kinds, qr/cron_schedule 1, .*dead_letter 1, .*hook 1, .*job 3, .*producer 1, .*queue 1, .*retry_policy 2, rights 1, sequences 1, .*task 3/, 'the dumped database has something of everything');

for my $format ('plain', 'custom')
{
	my $db = "restored_$format";
	my $file = PostgreSQL::Test::Utils::tempdir() . '/dump';
	$node->command_ok([ 'pg_dump', '-F', $format, '-f', $file, '-d', $node->connstr('source') ], "$format: pg_dump");
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	my @restore = $format eq 'plain' ? ('psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $file) : ('pg_restore', '--exit-on-error', $file);
	$node->command_ok([ @restore, '-d', $node->connstr($db) ], "$format: restore");
	is($node->safe_psql($db, $everything), $expected, "$format: everything is as it was");
	is($node->safe_psql($db, q{SELECT backfill.enqueue('outside', run_at => '2100-01-01') > 4}),
		't', "$format: ids go on where they were");
}

# pg_dump -n leaves out all extensions, and with them what belongs to one; -e says which to take.
my $part = PostgreSQL::Test::Utils::tempdir() . '/part';
$node->command_ok([ 'pg_dump', '-n', 'backfill', '-f', $part, '-d', $node->connstr('source') ], 'pg_dump -n backfill');
unlike(slurp_file($part), qr/^(CREATE|COPY|GRANT)/m, '... dumps nothing');
$node->command_ok([ 'pg_dump', '-n', 'public', '-f', $part, '-d', $node->connstr('source') ], 'pg_dump -n public');
unlike(slurp_file($part), qr/^COPY backfill/m, '... leaves out the rows of the extension');
$node->command_ok([ 'pg_dump', '-n', 'public', '-n', 'backfill', '-e', 'backfill', '-f', $part, '-d', $node->connstr('source') ], 'pg_dump -n public -n backfill -e backfill');
$node->safe_psql('postgres', 'CREATE DATABASE restored_parts');
$node->safe_psql('restored_parts', 'DROP SCHEMA public');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $part, '-d', $node->connstr('restored_parts') ], '... is restored');
is($node->safe_psql('restored_parts', $everything), $expected, '... and everything is as it was');

$node->safe_psql('postgres', 'ALTER SYSTEM SET backfill.max_executors = 2');
$node->reload;
for my $db ('restored_plain', 'restored_custom')
{
	wait_until($node, $db, q{SELECT array_agg(what) = '{ready}' FROM done}, "$db: the ready job runs");
	is($node->safe_psql($db, q{SELECT string_agg(state, ',' ORDER BY id) FROM backfill.jobs}),
		'scheduled,ready,scheduled', "$db: the others wait");
}
# The dead letter can be requeued, and new ones get ids of their own.
for my $db ('restored_plain', 'restored_custom')
{
	is( $node->safe_psql($db, q{SELECT nextval('backfill.dead_letter_id_seq') > max(id), nextval('backfill.queue_id_seq') > (SELECT max(id) FROM backfill.queue)
			FROM backfill.dead_letter}),
		't|t', "$db: the other sequences go on, too");
	$node->safe_psql($db, q{SELECT backfill.requeue_dlq_job(id) FROM backfill.dlq});
	wait_until($node, $db, q{SELECT failure_count = 2 FROM backfill.dlq}, "$db: a dead letter is requeued, and fails again");
}

# The rows alone, while triggers are disabled, into a database where workers and a session are already.
my $archive = PostgreSQL::Test::Utils::tempdir() . '/archive';
$node->command_ok([ 'pg_dump', '-F', 'custom', '-f', $archive, '-d', $node->connstr('source') ], 'pg_dump -F custom');
$node->safe_psql('postgres', 'CREATE DATABASE restored_rows');
my @connection = ('-d', $node->connstr('restored_rows'));
$node->command_ok([ 'pg_restore', '--exit-on-error', '--schema-only', @connection, $archive ], 'pg_restore --schema-only');
wait_until($node, 'restored_rows', q{SELECT count(*) = 1 FROM backfill.workers WHERE kind = 'dispatcher'}, 'a dispatcher is there');
my $session = $node->background_psql('restored_rows');
is($session->query_safe(q{SELECT backfill.backoff_delay(0, 'default') < '1500 ms' FROM backfill.enqueue('unknown', run_at => 'tomorrow')}), 't', 'and a session that knows the settings');
$node->safe_psql('restored_rows', 'TRUNCATE backfill.job');
$node->command_ok([ 'pg_restore', '--exit-on-error', '--data-only', '--disable-triggers', @connection, $archive ], 'pg_restore --data-only --disable-triggers');
wait_until($node, 'restored_rows', q{SELECT array_agg(what) = '{ready}' FROM done}, 'the ready job runs');
is($session->query_safe(q{SELECT backfill.backoff_delay(0, 'default') > '1500 ms'}), 't', 'the session has heard of the settings');
$session->quit;
is($node->safe_psql('restored_rows', q{SELECT string_agg(state, ',' ORDER BY id) FROM backfill.jobs}), 'scheduled,ready', 'the others wait');
# pg_restore enables the triggers again, but not ALWAYS.
my $triggers = q{SELECT status FROM backfill.health() WHERE check_name = 'triggers'};
is($node->safe_psql('restored_rows', $triggers), 'warning', 'health() says that the triggers do not fire for replication');
$node->safe_psql('restored_rows', $node->safe_psql('restored_rows', q{SELECT hint FROM backfill.health() WHERE check_name = 'triggers'}));
is($node->safe_psql('restored_rows', $triggers), 'ok', 'its hint mends that');
is($node->safe_psql('restored_rows', q{SELECT last_value >= 4 FROM backfill.job_id_seq}), 't', 'ids go on where they were');

# Only the schema: an empty queue that works.
my $schema = PostgreSQL::Test::Utils::tempdir() . '/schema';
$node->command_ok([ 'pg_dump', '--schema-only', '-f', $schema, '-d', $node->connstr('source') ], 'pg_dump --schema-only');
$node->safe_psql('postgres', 'CREATE DATABASE empty');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $schema, '-d', $node->connstr('empty') ], 'psql restores the schema');
is($node->safe_psql('empty', 'SELECT count(*) FROM backfill.tasks'), 0, 'the restored schema has no task');
$node->safe_psql('empty', q{SELECT backfill.register_task('work', 'work(jsonb)'), backfill.enqueue('work', '{"what": "new"}')});
wait_until($node, 'empty', q{SELECT array_agg(what) = '{new}' FROM done}, 'a job runs there');

# A dump that is taken while jobs run has each of them either waiting or done with its effects,
# and so has a restore, in one transaction, beside live workers.
$node->safe_psql('postgres', 'CREATE DATABASE live');
$node->safe_psql('postgres', 'CREATE DATABASE copy_of_live');
create_extension($node, 'live');
create_workload($node, 'live');
my $gate = close_gate($node, 'live');
produce($node, 'live', 1500, '{"ms": 2}');
produce($node, 'live', 7, '{"gate": true}'); # they wait until the dump is taken
my $bench = start_workload($node, 'live', 2);
wait_until($node, 'live', 'SELECT count(*) > 50 FROM effect', 'jobs run');
$node->command_ok([ 'pg_dump', '-f', "$schema.live", '-d', $node->connstr('live') ], 'a dump under load');
open_gate($gate);
is(finish_pgbench($bench), 0, 'clients notice nothing');
is_exactly_once($node, 'live', 'the original');
$node->command_ok([ 'psql', '-Xq', '-1', '-v', 'ON_ERROR_STOP=1', '-f', "$schema.live", '-d', $node->connstr('copy_of_live') ],
	'a restore beside live workers');
is_exactly_once($node, 'copy_of_live', 'the copy');
my ($effects, $dumped) = (slurp_file("$schema.live") =~ /^COPY public\.effect .*?\n(.*?)^\\\.$/ms, slurp_file("$schema.live") =~ /^COPY backfill\.job .*?\n(.*?)^\\\.$/ms);
cmp_ok(length($effects), '>', 0, 'some jobs of the dump were done');
cmp_ok(length($dumped), '>', 0, 'other jobs of the dump waited');

$node->stop;
check_log($node);
done_testing();

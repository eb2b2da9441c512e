# A dump and restore loses no task, setting, job or dead letter, and restored jobs run.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('dump', conf => "backfill.max_executors = 0\n");
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
	SELECT backfill.enqueue('broken');
	CALL backfill.process_available_jobs();
	SELECT backfill.enqueue_serial('work', '{"what": "ready"}', 'serial', job_key => 'key');
	SELECT backfill.enqueue('work', '{"what": "later"}', run_at => '2100-01-01');
	SELECT backfill.enqueue('outside', '{"what": "outside"}', priority => -20);
});

# Everything there is, in order.
my $everything = q{
	SELECT 'task', t::text FROM backfill.task t
	UNION ALL SELECT 'policy', p::text FROM backfill.retry_policies p
	UNION ALL SELECT 'queue', q::text FROM backfill.queue q
	UNION ALL SELECT 'producer', p::text FROM backfill.producer p
	UNION ALL SELECT 'job', j::text FROM backfill.job j
	UNION ALL SELECT 'letter', d::text FROM backfill.dead_letter d
	UNION ALL SELECT 'sequences', (s.last_value >= 4)::text FROM backfill.job_id_seq s
	UNION ALL SELECT 'rights', has_function_privilege('producer', 'backfill.enqueue_fast(text, jsonb, text)', 'EXECUTE')::text
	ORDER BY 1, 2};
my $expected = $node->safe_psql('source', $everything);
my $kinds = $node->safe_psql('source', "SELECT string_agg(kind || ' ' || n, ', ' ORDER BY kind) FROM (SELECT kind, count(*) AS n FROM ($everything) e(kind, row) GROUP BY kind) k");
is($kinds, 'job 3, letter 1, policy 5, producer 1, queue 1, rights 1, sequences 1, task 3', 'there is one of everything');

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

$node->safe_psql('postgres', 'ALTER SYSTEM SET backfill.max_executors = 2');
$node->reload;
for my $db ('restored_plain', 'restored_custom')
{
	wait_until($node, $db, q{SELECT array_agg(what) = '{ready}' FROM done}, "$db: the ready job runs");
	is($node->safe_psql($db, q{SELECT string_agg(state, ',' ORDER BY id) FROM backfill.jobs}),
		'scheduled,ready,scheduled', "$db: the others wait");
}
$node->command_ok([ 'pg_dump', '--schema-only', '-f', '/dev/null', '-d', $node->connstr('source') ],
	'pg_dump --schema-only');

$node->stop;
check_log($node);
done_testing();

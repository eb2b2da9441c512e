# While the library and the SQL objects are of different versions no job runs: neither by new
# executors nor by those that are there, idle or busy.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use Test::More;

my $node = preloaded('versions', conf => "backfill.poll_interval = '50ms'\n");
$node->safe_psql('postgres', 'CREATE DATABASE "My shop"');
create_extension($node, 'My shop');
sub sql { return $node->safe_psql('My shop', @_); }
sql(q{
	CREATE TABLE ran (job bigint);
	CREATE TABLE gate ();
	CREATE FUNCTION run(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO ran SELECT id FROM backfill.current_job() $$;
	CREATE FUNCTION wait(payload jsonb) RETURNS void LANGUAGE sql AS $$ LOCK TABLE gate; INSERT INTO ran SELECT id FROM backfill.current_job() $$;
	SELECT backfill.register_task('run', 'run(jsonb)'), backfill.register_task('wait', 'wait(jsonb)');
	SELECT backfill.enqueue('run');
});
wait_until($node, 'My shop', 'SELECT count(*) FROM ran', 'a job has run: an executor is idle', 1);
my $session = $node->background_psql('My shop');
$session->query_safe('BEGIN; LOCK TABLE gate IN ACCESS SHARE MODE');
sql(q{SELECT backfill.enqueue('wait')});
wait_until($node, 'My shop', q{SELECT count(*) FROM backfill.workers WHERE task_identifier = 'wait'}, 'an executor is busy', 1);

my $position = log_position($node);
sql(q{UPDATE pg_extension SET extversion = '9.9' WHERE extname = 'backfill'});
ok($node->wait_for_log(qr/backfill runs no jobs in database "My shop": the extension has version 9\.9, the library \d/, $position), 'the log names the database');
wait_for_workers($node, 'executor', 'My shop', 1, 'the idle executors end');
sql(q{SELECT backfill.enqueue('run') FROM generate_series(1, 10)});
$session->query_safe('COMMIT');
$session->quit;
wait_for_workers($node, 'executor', 'My shop', 0, 'the busy one, too, after its job');
is(sql('SELECT count(*) FROM ran'), 2, 'the busy executor\'s job is done');
is(sql('SELECT count(*) FROM backfill.job'), 10, 'no other job has run');

sql(q{UPDATE pg_extension SET extversion = backfill.version() WHERE extname = 'backfill'});
wait_until($node, 'My shop', 'SELECT count(*) FROM ran', 'they run when the versions are the same again', 12);
is(scalar(log_lines($node, qr/backfill runs no jobs in database/, $position)), 1, 'a version that differs is said once');

$node->stop;
check_log($node);
done_testing();

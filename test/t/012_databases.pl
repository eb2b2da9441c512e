# Commands that need a database without connections, or without the extension, while its
# workers are busy: they succeed, soon, and work goes on after them.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('databases');

# A database with jobs that run for an hour.
sub busy_database
{
	my ($db) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	create_extension($node, $db);
	$node->safe_psql(
		$db, q{
		CREATE TABLE done (what text);
		CREATE FUNCTION nap(payload jsonb) RETURNS void LANGUAGE sql AS $$
			SELECT pg_sleep(3600); INSERT INTO done VALUES ('nap') $$;
		CREATE FUNCTION work(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO done VALUES (payload->>'what') $$;
		SELECT backfill.register_task('nap', 'nap(jsonb)'), backfill.register_task('work', 'work(jsonb)');
		SELECT backfill.enqueue_bulk('nap') FROM generate_series(1, 2)});
	wait_until($node, $db, q{SELECT count(*) = 2 FROM backfill.jobs WHERE state = 'running'}, "$db is busy");
	return;
}

# After the command: the naps have been given back and run again, and other jobs run.
sub works_again
{
	my ($db, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql($db, qq{SELECT backfill.enqueue_fast('work', '{"what": "$name"}')});
	wait_until($node, $db, "SELECT count(*) = 1 FROM done WHERE what = '$name'", "$name: jobs run in $db");
	wait_until($node, $db, q{SELECT count(*) = 2 FROM backfill.jobs WHERE state = 'running' AND task_identifier = 'nap' AND attempts = 0},
		"$name: interrupted jobs run again, at no cost");
	return;
}

busy_database('one');
$node->safe_psql('postgres', 'ALTER DATABASE one RENAME TO two');
works_again('two', 'rename');

$node->safe_psql('postgres', 'CREATE DATABASE three TEMPLATE two');
works_again('two', 'template');
$node->safe_psql('three', q{SELECT backfill.enqueue_fast('work', '{"what": "copy"}')});
wait_until($node, 'three', q{SELECT count(*) = 1 FROM done WHERE what = 'copy'}, 'the copy has workers of its own');

my $space = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', "CREATE TABLESPACE elsewhere LOCATION '$space'");
$node->safe_psql('postgres', 'ALTER DATABASE two SET TABLESPACE elsewhere');
works_again('two', 'tablespace');

# A command that fails gives the workers back.
my ($code, undef, $err) = $node->psql('postgres', 'ALTER DATABASE two RENAME TO three');
isnt($code, 0, 'a rename to a name that exists fails');
works_again('two', 'failed rename');

$node->safe_psql('postgres', 'DROP DATABASE three');
$node->safe_psql('postgres', 'DROP DATABASE two');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE datname IN ('two', 'three')}),
	0, 'dropped databases leave no worker');

# A role that may not drop a database does not get to disturb its workers.
busy_database('guarded');
my @pids = worker_pids($node, 'executor', 'guarded');
$node->safe_psql('postgres', 'CREATE ROLE nobody LOGIN');
($code, undef, $err) = $node->psql('postgres', 'DROP DATABASE guarded', extra_params => [ '-U', 'nobody' ]);
like($err, qr/must be owner of database/, 'who is not the owner may not drop it');
is_deeply([ worker_pids($node, 'executor', 'guarded') ], \@pids, 'and its executors go on');

# DROP EXTENSION does not wait for jobs that sleep for an hour; rolled back, all goes on.
$node->safe_psql('guarded', 'BEGIN; DROP EXTENSION backfill; ROLLBACK');
works_again('guarded', 'DROP EXTENSION rolled back');
$node->safe_psql('guarded', 'DROP EXTENSION backfill');
wait_until($node, 'postgres',
	q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'guarded' AND backend_type ~ '^backfill'},
	'without the extension there are no workers');
create_extension($node, 'guarded');
$node->safe_psql('guarded',
	q{SELECT backfill.register_task('work', 'work(jsonb)'), backfill.enqueue('work', '{"what": "new"}')});
wait_until($node, 'guarded', q{SELECT count(*) = 1 FROM done WHERE what = 'new'}, 'created again, jobs run');

# backfill.databases: only named ones have workers.
busy_database('named');
$node->safe_psql('postgres', q{ALTER SYSTEM SET backfill.databases = 'guarded'});
$node->reload;
wait_until($node, 'postgres',
	q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'named' AND backend_type ~ '^backfill'},
	'a database that is no longer named loses its workers');
$node->safe_psql('postgres', q{ALTER SYSTEM RESET backfill.databases});
$node->reload;
works_again('named', 'named again');

cmp_ok(scalar(log_lines($node, qr/backfill.*(ERROR|WARNING)/)), '<', 20, 'the log has no storm');
$node->stop;
check_log($node);
done_testing();

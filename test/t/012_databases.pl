# Commands that need a database, or the extension, to themselves. The workers are always
# busy here: each job enqueues the next, and one sleeps for an hour. The commands succeed, soon,
# and work goes on after them.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use List::Util qw(max);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = preloaded('databases', conf => "backfill.poll_interval = '1h'\n");

my $workload = q{
	CREATE TABLE ticks (job bigint);
	CREATE FUNCTION tick(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO ticks VALUES (backfill.enqueue_fast('tick'));
		PERFORM pg_sleep(0.002);
	END $$;
	CREATE FUNCTION nap(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(3600) $$;
};
my $start = q{
	SELECT backfill.register_task('tick', 'tick(jsonb)'), backfill.register_task('nap', 'nap(jsonb)');
	SELECT backfill.enqueue_emergency('nap'), backfill.enqueue_fast('tick'), backfill.enqueue_fast('tick');
};

# An assertion: one job naps, and the others go on. What was interrupted starts again within
# half a minute (the launcher's own round comes once a minute) and has lost no attempt.
sub works
{
	my ($db, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $started = time;
	my $ticks = $node->safe_psql($db, 'SELECT count(*) FROM ticks');
	my $works = $node->poll_query_until($db, "SELECT count(*) > $ticks FROM ticks")
	  && $node->poll_query_until($db, q{SELECT count(*) = 1 FROM backfill.jobs WHERE task_identifier = 'nap'
		AND state = 'running' AND attempts = 0});
	return ok($works && time - $started < 30, $name);
}

# How long it takes to copy a database without sessions: a second or more on a busy machine.
my $pace = time;
$node->safe_psql('postgres', 'CREATE DATABASE unused');
$pace = time - $pace;

# An assertion: a command succeeds, or fails with a certain error, well before the five
# seconds after which PostgreSQL gives up on a database in use.
sub quickly
{
	my ($db, $command, $error) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $started = time;
	my ($code, undef, $message) = finish_psql(start_psql($node, $db, "SET statement_timeout = '15 s'; $command"));
	my $took = time - $started;
	if ($error)
	{
		like($message, $error, "$command: fails as it should");
	}
	else
	{
		is("$code $message", '0 ', $command);
	}
	cmp_ok($took, '<', max(4, 20 * $pace), "$command: ends soon");
	return;
}

sub dispatchers
{
	return $node->safe_psql('postgres', q{SELECT string_agg(datname, ',' ORDER BY datname)
		FROM pg_stat_activity WHERE backend_type = 'backfill dispatcher'});
}

my $space = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', "CREATE TABLESPACE elsewhere LOCATION '$space'");
$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('postgres', 'CREATE ROLE bob LOGIN');
$node->safe_psql('shop', $workload);
create_extension($node, 'shop');
$node->safe_psql('shop', $start);
works('shop', 'jobs run');

# --- Databases.

quickly('postgres', 'ALTER DATABASE shop RENAME TO store');
works('store', 'jobs go on in the renamed database');

quickly('postgres', 'CREATE DATABASE copy TEMPLATE store');
works('store', 'jobs go on in the template');
works('copy', 'jobs run in the copy');
is(dispatchers(), 'copy,store', 'each has one dispatcher');

quickly('postgres', 'ALTER DATABASE store SET TABLESPACE elsewhere');
works('store', 'jobs go on in the other tablespace');

# Commands that fail before they need the database for themselves.
my @pids_before = map { worker_pids($node, $_, 'store') } 'dispatcher', 'executor';
quickly('postgres', 'ALTER DATABASE store RENAME TO copy', qr/database "copy" already exists/);
quickly('postgres', 'CREATE DATABASE copy TEMPLATE store', qr/database "copy" already exists/);
quickly('postgres', 'CREATE DATABASE other TEMPLATE store TABLESPACE nosuch', qr/tablespace "nosuch" does not exist/);
quickly('postgres', 'CREATE DATABASE other TEMPLATE store OWNER nosuch', qr/role "nosuch" does not exist/);
quickly('postgres', "CREATE DATABASE other TEMPLATE store ENCODING 'nosuch'", qr/nosuch is not a valid encoding name/);
quickly('postgres', "CREATE DATABASE other TEMPLATE store ENCODING 'EUC_JP'", qr/encoding "EUC_JP" does not match|is incompatible/);
quickly('postgres', 'ALTER DATABASE store SET TABLESPACE nosuch', qr/tablespace "nosuch" does not exist/);
quickly('postgres', 'ALTER DATABASE store SET TABLESPACE elsewhere');
quickly('postgres', 'BEGIN; DROP DATABASE store', qr/DROP DATABASE cannot run inside a transaction block/);
quickly('postgres', 'BEGIN; CREATE DATABASE other TEMPLATE store', qr/CREATE DATABASE cannot run inside a transaction block/);
is_deeply([ map { worker_pids($node, $_, 'store') } 'dispatcher', 'executor' ],
	\@pids_before, 'commands that fail at once leave the workers alone');
works('store', 'jobs go on after commands that failed');

my @pids = worker_pids($node, 'dispatcher', 'store');
quickly('postgres', 'SET ROLE bob; DROP DATABASE store', qr/must be owner of database store/);
quickly('postgres', 'SET ROLE bob; CREATE DATABASE mine TEMPLATE store', qr/permission denied/);
is_deeply([ worker_pids($node, 'dispatcher', 'store') ],
	\@pids, 'a role that may not have a database to itself does not disturb its workers');

quickly('postgres', 'DROP DATABASE copy');
quickly('postgres', 'CREATE DATABASE copy TEMPLATE store');
works('copy', 'a database of the same name starts again');
# Another client's session makes the command wait, and it is terminated.
my $user = $node->background_psql('copy');
my $dropping = $node->background_psql('postgres', on_error_stop => 0);
my $dropping_pid = $dropping->query_safe('SELECT pg_backend_pid()');
$dropping->query_until(qr/now/, "\\echo now\nDROP DATABASE copy;\n");
wait_until($node, 'postgres', qq{SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $dropping_pid AND query LIKE 'DROP%' AND state = 'active'}, 'a command waits');
wait_for_workers($node, 'dispatcher', 'copy', 0, 'the workers have gone');
is($node->safe_psql('postgres', "SELECT pg_terminate_backend($dropping_pid)"), 't', 'the waiting command\'s session is terminated');
$dropping->{run}->finish;
works('copy', 'the workers come back soon');
$user->quit;
quickly('postgres', 'DROP DATABASE copy WITH (FORCE)');
is(dispatchers(), 'store', 'no worker is left of a dropped database');
works('store', 'the other database has not noticed');

# A job whose own command asks for the database: it ends its executor and all others, and is set aside for longer each time.
my $connection = 'host=' . $node->host . ' port=' . $node->port . ' dbname=postgres';
$node->safe_psql('store', qq{
	CREATE EXTENSION dblink;
	CREATE SEQUENCE copies;
	CREATE FUNCTION copy_itself(payload jsonb) RETURNS void LANGUAGE plpgsql AS \$\$
	BEGIN
		PERFORM nextval('copies');
		PERFORM dblink_exec('$connection', 'CREATE DATABASE another TEMPLATE store');
	END \$\$;
	SELECT backfill.register_task('copy_itself', 'copy_itself(jsonb)')});
# A session there keeps the command from succeeding.
my $visitor = $node->background_psql('store');
my $copier = $node->safe_psql('store', q{SELECT backfill.enqueue_emergency('copy_itself')});
wait_until($node, 'store', "SELECT failures >= 2 FROM backfill._set_aside() WHERE kind = 'job' AND id = $copier", 'a job that asks for its database is set aside each time');
cmp_ok($node->safe_psql('store', 'SELECT last_value FROM copies'), '<', 10, 'and not begun again at once, without end');
$node->safe_psql('store', "SELECT backfill.cancel_job($copier)");
$visitor->quit;
wait_until($node, 'postgres', q{SELECT count(*) FROM pg_stat_activity WHERE query ~ '^CREATE DATABASE another'}, 'its command ends', 0);
$node->safe_psql('postgres', 'DROP DATABASE IF EXISTS another WITH (FORCE)');
wait_until($node, 'store', "SELECT count(*) FROM backfill.job WHERE id = $copier", 'the job is cancelled', 0);
works('store', 'other jobs go on');

# --- The extension.

my $session = $node->background_psql('store');
$session->query_safe('BEGIN');
$session->query_safe('DROP EXTENSION backfill');
$session->query_safe('ROLLBACK');
$session->quit;
works('store', 'jobs go on after a DROP EXTENSION that is rolled back');

# Dropped and made again in one transaction, while a dispatcher waits to look.
$session = $node->background_psql('store');
$session->query_safe('BEGIN; DROP EXTENSION backfill');
$session->query_safe('CREATE EXTENSION backfill');
wait_for_workers($node, 'dispatcher', 'store', 1, 'the workers are let back before the commit');
$session->query_safe($start);
$session->query_safe('COMMIT');
$session->quit;
works('store', 'jobs go on after a DROP and CREATE EXTENSION in one transaction');

quickly('store', 'DROP SCHEMA backfill CASCADE', qr/cannot drop schema backfill because extension backfill requires it/);
works('store', 'jobs go on after an attempt to drop the schema alone');

my $clock = $node->safe_psql('store', 'SELECT clock_timestamp()');
quickly('store', 'SET ROLE bob; DROP EXTENSION backfill', qr/must be owner of extension backfill/);
works('store', 'jobs go on after an attempt to drop the extension without the right to');
is( $node->safe_psql('store', qq{SELECT count(*) FROM backfill.workers WHERE task_identifier = 'nap' AND state_since < '$clock'}),
	1, 'the attempt to drop the extension has interrupted no job');

quickly('store', 'DROP EXTENSION backfill');
wait_until($node, 'postgres', q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'store' AND backend_type ~ 'backfill'},
	'DROP EXTENSION leaves no worker, when the launcher has looked', 0);
create_extension($node, 'store');
$node->safe_psql('store', $start);
works('store', 'created again, it works again');

# From within a function.
quickly('store', 'DO $$ BEGIN EXECUTE $x$DROP EXTENSION IF EXISTS nothing, backfill CASCADE$x$; END $$', qr/NOTICE:  extension "nothing" does not exist/);
is($node->safe_psql('store', q{SELECT to_regnamespace('backfill') IS NULL}), 't', 'DROP EXTENSION in a DO block');

# Its owner can go with everything that it owns.
$node->safe_psql('store', 'CREATE ROLE owner SUPERUSER');
$node->safe_psql('store', 'SET ROLE owner; CREATE EXTENSION backfill');
$node->safe_psql('store', $start);
works('store', 'jobs run with another owner of the extension');
quickly('store', 'DROP OWNED BY owner CASCADE');
is($node->safe_psql('store', q{SELECT to_regnamespace('backfill') IS NULL}), 't', 'DROP OWNED drops the extension');

my @errors = log_lines($node, qr/ backfill (launcher|dispatcher|executor) (?!57P01)\S+ (ERROR|FATAL|WARNING):/);
cmp_ok(scalar(@errors), '<', 10, 'the log has no storm') or diag join("\n", @errors);
$node->stop;
check_log($node);
done_testing();

# Worker slots run out: the log says so once, with a hint, and work goes on with fewer
# executors; nothing spins. What waits for a slot gets it when one becomes free.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

# Slots for PostgreSQL's logical replication launcher, our launcher, a dispatcher and one executor.
# Idle executors stay: what is seen here to end makes room for others.
my $node = preloaded('slots', conf => "max_worker_processes = 4\nbackfill.executor_idle_timeout = '1h'\n");
create_extension($node);
create_workload($node, 'postgres');
my $no_executor = qr/53400 WARNING:  backfill could not start an executor: no background worker slot is free/;
my $no_dispatcher = qr/53400 WARNING:  backfill could not start a dispatcher: no background worker slot is free/;

# CPU time of a process, in ticks of 10 ms.
sub cpu_ticks
{
	my ($pid) = @_;
	my @fields = split / /, (slurp_file("/proc/$pid/stat") =~ /\) (.*)/)[0];
	return $fields[11] + $fields[12];
}

produce($node, 'postgres', 400, '{"ms": 2}');
my ($dispatcher) = worker_pids($node, 'dispatcher');
is_exactly_once($node, 'postgres', 'with one executor instead of four each job runs once');
is($node->safe_psql('postgres', 'SELECT count(DISTINCT pid) FROM effect'), 1, 'one executor ran them all');
is(scalar(log_lines($node, $no_executor)), 1, 'a lack of slots for executors is one warning');
produce($node, 'postgres', 20) for 1 .. 10;
is_exactly_once($node, 'postgres', 'more jobs, in between of which one executor is enough');
is(scalar(log_lines($node, $no_executor)), 1, 'the same shortage raises no other warning');
$node->wait_for_log(qr/HINT:  Raise max_worker_processes, or lower backfill.max_executors/);
cmp_ok(cpu_ticks($dispatcher), '<', 100, 'the dispatcher has used less than a second of CPU time');

# Another role's jobs get the one place that there is.
$node->safe_psql(
	'postgres', q{
	CREATE ROLE bob LOGIN;
	GRANT INSERT ON effect TO bob;
	SELECT backfill.register_task('other', 'work(jsonb)', run_as => 'bob', retry_policy => 'quick')});
produce($node, 'postgres', 200, '{"ms": 2}');
$node->safe_psql('postgres', q{
	WITH i AS (INSERT INTO intended (kind) SELECT 0 FROM generate_series(1, 20) RETURNING token)
	SELECT count(backfill.enqueue_fast('other', to_jsonb(i))) FROM i});
is_exactly_once($node, 'postgres', 'two roles share one place');
cmp_ok($node->safe_psql('postgres', q{SELECT count(DISTINCT pid) FROM effect}), '>', 1, 'the two roles ran one after the other');
for my $task ('work', 'other', 'work', 'other')
{
	$node->safe_psql('postgres', qq{
		WITH i AS (INSERT INTO intended (kind) SELECT 0 RETURNING token)
		SELECT backfill.enqueue_fast('$task', to_jsonb(i)) FROM i});
	is_exactly_once($node, 'postgres', "a single job of task $task makes an idle executor of another role end");
}

# A second database finds no slot for its dispatcher while the executor lives; it gets it
# when that ends.
my $position = log_position($node);
$node->safe_psql('postgres', 'CREATE DATABASE second');
create_extension($node, 'second');
create_workload($node, 'second');
produce($node, 'second', 20);
$node->wait_for_log($no_dispatcher, $position);
is($node->safe_psql('second', 'SELECT count(*) > 0 FROM backfill.job'), 't', 'the second database waits for a dispatcher');
$node->safe_psql('postgres', 'ALTER SYSTEM SET backfill.max_executors = 0');
$node->reload;
wait_for_workers($node, 'dispatcher', 'second', 1, 'the second database gets a dispatcher when an executor ends');
is(scalar(log_lines($node, $no_dispatcher, $position)), 1, 'a lack of slots for the dispatcher is one warning');

# Its executor gets a slot when the first database goes.
$node->safe_psql('postgres', 'ALTER SYSTEM RESET backfill.max_executors');
$node->reload;
$node->wait_for_log($no_executor, $position);
$node->safe_psql('postgres', 'DROP EXTENSION backfill CASCADE');
is_exactly_once($node, 'second', 'the second database is served as soon as there is room');
is(scalar(log_lines($node, $no_executor, $position)), 1, 'the second database\'s lack of executors is one warning');

# Not even the first dispatcher finds a slot. There is nothing to wait for here but the warning.
$node->append_conf('postgresql.conf', "max_worker_processes = 2\n");
$node->stop;
$position = log_position($node);
$node->start;
$node->wait_for_log($no_dispatcher, $position);
produce($node, 'second', 20);
is($node->safe_psql('second', 'SELECT count(*) > 0 FROM backfill.job'), 't', 'jobs can be enqueued without any worker');
my ($launcher) = worker_pids($node, 'launcher');
my $ticks = cpu_ticks($launcher);
$node->safe_psql('second', 'CALL backfill.process_available_jobs()');
wait_until($node, 'second', 'CALL backfill.process_available_jobs()', 'a session finds nothing to run any more', 0);
is_exactly_once($node, 'second', 'jobs without workers are run by a session');
cmp_ok(cpu_ticks($launcher) - $ticks, '<', 50, 'the launcher does not spin');
is(scalar(log_lines($node, $no_dispatcher, $position)), 1, 'a dispatcher that cannot start is one warning');

# Many databases, more than the library scouts at a time, and enough slots.
$node->append_conf('postgresql.conf', "max_worker_processes = 30\n");
$node->safe_psql('postgres', "CREATE DATABASE db$_ TEMPLATE second") for (1 .. 4);
$node->restart;
wait_for_workers($node, 'dispatcher', undef, 5, 'five databases have five dispatchers');
for my $db ('db1', 'db4')
{
	produce($node, $db, 20);
	is_exactly_once($node, $db, "database $db");
}

$node->stop;
check_log($node);
done_testing();

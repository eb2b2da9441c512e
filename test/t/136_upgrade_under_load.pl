# ALTER EXTENSION UPDATE while clients enqueue and executors work: each committed enqueue runs exactly once,
# whether the update commits, is rolled back, or its session, an executor or the server is killed meanwhile.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use Installation;
use PostgreSQL::Test::Utils;
use Test::More;

my $first = '0.1.0';
my ($version) = slurp_file("$FindBin::RealBin/../../backfill.control") =~ /^default_version = '(.*)'/m;
my ($installation, $scripts) = make_installation('installation');
my $node = preloaded('load', install_path => $installation, conf => "backfill.poll_interval = '50ms'\nbackfill.executor_idle_timeout = '1h'\nrestart_after_crash = on\n");

# A version that changes the table of jobs, and holds it while the test wants it to; and the way back.
append_to_file("$scripts/backfill--$version--99.0.0.sql", q{
	ALTER TABLE backfill.job ADD COLUMN planted int;
	CREATE INDEX planted_idx ON backfill.job (planted) WHERE planted IS NOT NULL;
	CREATE FUNCTION backfill.planted() RETURNS int LANGUAGE sql SET search_path = pg_catalog, pg_temp AS 'SELECT 1';
	SELECT pg_catalog.pg_advisory_xact_lock(20261129);
	SELECT backfill._after_upgrade();
});
append_to_file("$scripts/backfill--99.0.0--$version.sql", q{
	ALTER EXTENSION backfill DROP FUNCTION backfill.planted();
	DROP FUNCTION backfill.planted();
	ALTER TABLE backfill.job DROP COLUMN planted;
});

my $db = 'load';
$node->safe_psql('postgres', "CREATE DATABASE $db");
$node->safe_psql($db, "CREATE EXTENSION backfill VERSION '$first'");
create_workload($node, $db);
sub installed { return $node->safe_psql($db, q{SELECT extversion FROM pg_extension WHERE extname = 'backfill'}); }

# An update that waits in the middle of its script, and the process id of its session.
sub start_update
{
	my $update = start_program({ in => '' }, 'psql', '-Xq', '-d', $node->connstr($db), '-c', q{ALTER EXTENSION backfill UPDATE TO '99.0.0'});
	my ($pid, $seen);
	try_until('the update is in the middle of its script', sub {
		$pid = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE query ~ '^ALTER EXTENSION' AND wait_event = 'advisory'});
		return ($pid =~ /^\d+$/, $pid);
	});
	return ($update, $pid);
}

# Before the update nothing runs, and nothing is refused.
produce($node, $db, 300);
$node->wait_for_log(qr/backfill runs no jobs in database "$db": the extension has version \Q$first\E, the library \Q$version\E/);
my $bench = start_workload($node, $db, 3);
wait_until($node, $db, 'SELECT count(*) > 400 FROM backfill.job', 'clients enqueue while the old scripts are there');
is($node->safe_psql($db, 'SELECT count(*) FROM effect'), 0, 'jobs wait');
$node->safe_psql($db, 'ALTER EXTENSION backfill UPDATE');
is(installed(), $version, 'the update, in the middle of that');
is(finish_pgbench($bench), 0, 'clients notice nothing');
is_exactly_once($node, $db, 'the update');

# Does it to a server with a backlog, clients that enqueue, executors in the middle of jobs.
sub disturb
{
	my ($name, $disturbance) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $gate = close_gate($node, $db);
	produce($node, $db, 700, '{"ms": 2}');
	produce($node, $db, 7, '{"gate": true}'); # what no executor gets done before
	my $bench = start_workload($node, $db, 3);
	running_executor($node, $db);
	$disturbance->($gate);
	finish_pgbench($bench);
	open_gate($gate);
	wait_until($node, $db, 'SELECT true', "$name: the server is there");
	is_exactly_once($node, $db, $name);
	return;
}

disturb('an update that is rolled back', sub {
	my ($gate) = @_;
	open_gate($gate); # the table is changed when its jobs are done
	my $update = start_psql($node, $db, q{BEGIN; ALTER EXTENSION backfill UPDATE TO '99.0.0'; SELECT produce(0); ROLLBACK});
	is((finish_psql($update))[0], 0, 'it comes to its end');
	is(installed(), $version, 'nothing has changed');
});

disturb('an update, and its way back', sub {
	my ($gate) = @_;
	open_gate($gate);
	my $position = log_position($node);
	$node->safe_psql($db, q{ALTER EXTENSION backfill UPDATE TO '99.0.0'});
	$node->wait_for_log(qr/backfill runs no jobs in database "$db": the extension has version 99\.0\.0/, $position);
	produce($node, $db, 70);
	wait_for_workers($node, 'executor', $db, 0, 'the executors end');
	cmp_ok($node->safe_psql($db, 'SELECT count(*) FROM backfill.job'), '>=', 70, 'jobs wait while the versions differ');
	$node->safe_psql($db, qq{ALTER EXTENSION backfill UPDATE TO '$version'});
});

for my $victim ('the session that updates', 'an executor')
{
	disturb("kill -9 of $victim", sub {
		my ($gate) = @_;
		open_gate($gate);
		my $lock = $node->background_psql($db);
		$lock->query_safe('SELECT pg_advisory_lock(20261129)');
		my ($update, $pid) = start_update();
		my $position = log_position($node);
		if ($victim eq 'an executor')
		{
			($pid) = worker_pids($node, 'executor', $db);
			like($pid, qr/^\d+$/, 'an executor is there, which waits for the table');
		}
		is(kill('KILL', $pid), 1, "process $pid is killed");
		$node->wait_for_log(qr/all server processes terminated; reinitializing/, $position);
		isnt((finish_psql($update))[0], 0, 'the update has failed');
		eval { $lock->quit };
		wait_until($node, $db, q{SELECT extversion FROM pg_extension WHERE extname = 'backfill'}, 'the version is the old one', $version);
	});
}
is($node->safe_psql($db, q{SELECT count(*) FROM pg_attribute WHERE attrelid = 'backfill.job'::regclass AND attname = 'planted'}), 0, 'nothing is left of the updates that failed');

$node->stop;
check_log($node, crashes => 1);
is(scalar(log_lines($node, qr/was terminated by signal (?!9:)/)), 0, 'no process crashed by itself');
done_testing();

# What the TAP tests share: servers with the library preloaded, and ways to wait for
# something to become true. Nothing here sleeps for a fixed time.
package Backfill;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(
  new_server preloaded create_extension wait_until worker_pids wait_for_workers running_executor
  start_psql finish_psql run_psqls start_pgbench finish_pgbench resident_kb
  log_position log_lines check_log
  create_workload produce start_workload is_exactly_once
);

# The settings of every server. The log's lines begin with the kind of process and the
# SQLSTATE, so that tests can tell whose error it is.
my $common_conf = q{
log_statement = none
log_line_prefix = '%m [%p] %b %e %q%u@%d '
log_checkpoints = off
max_connections = 40
max_worker_processes = 16
};

# A server that is initialised, but not started. Settings that follow override others.
#   new_server('name', conf => "...", init => { allows_streaming => 1 })
sub new_server
{
	my ($name, %params) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(%{ $params{init} // {} });
	$node->append_conf('postgresql.conf', $common_conf . ($params{conf} // ''));
	return $node;
}

# The same with the library preloaded, started.
sub preloaded
{
	my ($name, %params) = @_;
	$params{conf} = "shared_preload_libraries = 'backfill'\n" . ($params{conf} // '');
	my $node = new_server($name, %params);
	$node->start;
	return $node;
}

sub create_extension
{
	my ($node, $db) = @_;
	$node->safe_psql($db // 'postgres', 'CREATE EXTENSION backfill');
	return;
}

# An assertion: the query comes to return t (or what is expected).
sub wait_until
{
	my ($node, $db, $query, $name, $expected) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($node->poll_query_until($db, $query, $expected), $name);
}

# Process ids of workers of a kind (launcher, dispatcher, executor), in one database or all.
sub worker_pids
{
	my ($node, $kind, $db) = @_;
	my $where = defined $db ? "AND datname = '$db'" : '';
	return split /\n/,
	  $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'backfill $kind' $where ORDER BY pid");
}

# An assertion: there are so many workers of a kind; `$count` may be an SQL comparison.
sub wait_for_workers
{
	my ($node, $kind, $db, $count, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $where = defined $db ? "AND datname = '$db'" : '';
	$count = "= $count" if $count =~ /^\d+$/;
	return wait_until($node, 'postgres',
		"SELECT count(*) $count FROM pg_stat_activity WHERE backend_type = 'backfill $kind' $where",
		$name);
}

# The process id of an executor that is running a job right now, as soon as there is one.
sub running_executor
{
	my ($node, $db) = @_;
	my $pid = '';
	for my $try (1 .. 1000)
	{
		$pid = $node->safe_psql($db,
			"SELECT pid FROM backfill.workers WHERE kind = 'executor' AND job_id IS NOT NULL LIMIT 1");
		return $pid if $pid ne '';
	}
	die 'no executor runs a job';
}

# A psql in the background that runs a script; finish_psql() returns (exit code, output, errors).
sub start_psql
{
	my ($node, $db, $sql, @options) = @_;
	my $session = { in => $sql, out => '', err => '' };
	$session->{run} = IPC::Run::start(
		[ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', @options, '-d', $node->connstr($db), '-f', '-' ],
		'<', \$session->{in}, '>', \$session->{out}, '2>', \$session->{err},
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return $session;
}

sub finish_psql
{
	my ($session) = @_;
	$session->{run}->finish;
	chomp(my $out = $session->{out});
	return ($session->{run}->full_result(0), $out, $session->{err});
}

# Run several scripts at the same time; returns what each printed. Dies if one fails.
sub run_psqls
{
	my ($node, $db, @scripts) = @_;
	my @sessions = map { start_psql($node, $db, $_) } @scripts;
	my @outputs;
	for my $session (@sessions)
	{
		my ($code, $out, $err) = finish_psql($session);
		die "psql failed: $err" if $code != 0;
		push @outputs, $out;
	}
	return @outputs;
}

# A pgbench in the background with one script.
sub start_pgbench
{
	my ($node, $db, $script, @options) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	append_to_file("$dir/script.sql", $script);
	my $bench = { out => '', err => '' };
	$bench->{run} = IPC::Run::start(
		[ 'pgbench', '-n', '-f', "$dir/script.sql", @options, $node->connstr($db) ],
		'<', \undef, '>', \$bench->{out}, '2>', \$bench->{err},
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return $bench;
}

# Waits for its end; returns the exit code (a server that crashes meanwhile makes it fail).
sub finish_pgbench
{
	my ($bench) = @_;
	$bench->{run}->finish;
	note $bench->{err} if $bench->{run}->full_result(0) != 0;
	return $bench->{run}->full_result(0);
}

# Memory of a process that is its own, in kB, from /proc.
sub resident_kb
{
	my ($pid) = @_;
	my ($kb) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m;
	return $kb;
}

# Where the log ends now.
sub log_position
{
	my ($node) = @_;
	return -s $node->logfile;
}

# The lines of the log, from a position on, that match.
sub log_lines
{
	my ($node, $pattern, $from) = @_;
	return grep { /$pattern/ } split /\n/, slurp_file($node->logfile, $from // 0);
}

# An assertion: the log has no sign of a bug. Internal errors (class XX), failed assertions and
# leaks are always such a sign. Crashes are too, unless the test makes them.
sub check_log
{
	my ($node, %params) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $bad =
	  qr/ XX\d\d\d |PANIC: |TRAP: |leak:|was not closed|you don't own a lock|still referenced|not properly cleaned up/;
	$bad = qr/$bad|was terminated by signal/ unless $params{crashes};
	my @lines = log_lines($node, $bad);
	return is(join("\n", @lines[ 0 .. ($#lines < 9 ? $#lines : 9) ]),
		'', 'the log of ' . $node->name . ' has no internal error');
}

# --- A workload whose outcome can be checked: every committed enqueue leaves a row in
# `intended`, every run of a job one in `effect`. Some jobs take a while, some fail at first.

sub create_workload
{
	my ($node, $db) = @_;
	$node->safe_psql(
		$db, q{
		CREATE TABLE intended (token bigint GENERATED ALWAYS AS IDENTITY, kind int);
		CREATE TABLE effect (token bigint, pid int DEFAULT pg_backend_pid());

		CREATE FUNCTION work(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO effect (token) VALUES ((payload->>'token')::bigint);
			PERFORM pg_sleep((payload->>'ms')::float8 / 1000) WHERE payload ? 'ms';
			IF random() < 0.02 THEN
				RAISE EXCEPTION 'a job fails now and then';
			END IF;
		END $$;

		CREATE FUNCTION produce(kind int, details jsonb DEFAULT '{}') RETURNS bigint LANGUAGE plpgsql AS $$
		DECLARE
			t bigint[];
			p jsonb[];
		BEGIN
			kind := kind % 7;
			WITH i AS (INSERT INTO intended (kind)
				SELECT produce.kind FROM generate_series(1, CASE WHEN produce.kind < 5 THEN 1 ELSE 3 END)
				RETURNING token)
			SELECT array_agg(token), array_agg(jsonb_build_object('token', token) || details) INTO t, p FROM i;
			RETURN CASE kind
				WHEN 0 THEN backfill.enqueue_fast('work', p[1])
				WHEN 1 THEN backfill.enqueue_bulk('work', p[1])
				WHEN 2 THEN backfill.enqueue_emergency('work', p[1], job_key => 'key ' || t[1])
				WHEN 3 THEN backfill.enqueue('work', p[1], priority => t[1]::int % 20 - 10, queue_name => 'own')
				WHEN 4 THEN backfill.enqueue_serial('work', p[1], 'serial ' || t[1] % 3)
				WHEN 5 THEN (SELECT count(*) FROM backfill.enqueue_many('work', p))
				ELSE (SELECT count(*) FROM backfill.enqueue_jobs(
					(SELECT jsonb_agg(jsonb_build_object('task_identifier', 'work', 'payload', e)) FROM unnest(p) e)))
			END;
		END $$;

		SELECT backfill.set_retry_policy('quick', 1000, '1 ms', '20 ms', 2, 0.5);
		SELECT backfill.register_task('work', 'work(jsonb)', retry_policy => 'quick');
	});
	return;
}

# So many calls of produce() in one transaction, of every kind in turn.
sub produce
{
	my ($node, $db, $calls, $details) = @_;
	$details //= '{}';
	$node->safe_psql($db, "SELECT count(produce(i, '$details')) FROM generate_series(1, $calls) i");
	return;
}

# Clients that enqueue for about a second in the background; ends with finish_pgbench().
sub start_workload
{
	my ($node, $db, $clients) = @_;
	return start_pgbench(
		$node, $db, q{
\set kind random(0, 6)
BEGIN;
SELECT produce(:kind, '{"ms": 1}');
SELECT produce(:kind + 1);
COMMIT;
}, '-c', $clients, '-t', 100);
}

# Assertions: the workload comes to an end, and every committed enqueue has run exactly once.
sub is_exactly_once
{
	my ($node, $db, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until($node, $db, 'SELECT count(*) = 0 FROM backfill.job', "$name: all jobs have ended");
	is( $node->safe_psql(
			$db, q{
		SELECT 'lost', count(*) FROM (SELECT token FROM intended EXCEPT ALL SELECT token FROM effect) l
		UNION ALL
		SELECT 'too many', count(*) FROM (SELECT token FROM effect EXCEPT ALL SELECT token FROM intended) t
		UNION ALL
		SELECT 'dead', total_jobs FROM backfill.dlq_stats()}),
		"lost|0\ntoo many|0\ndead|0",
		"$name: every committed enqueue ran exactly once");
	return;
}

1;

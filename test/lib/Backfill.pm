# What the TAP tests share: servers with the library preloaded, and ways to wait for
# something to become true.
#
# A test must not assume that the machine is fast: between any two of its lines a minute may pass.
# - It waits for a condition: wait_until() for what a query can tell, try_until() for anything else,
#   $node->wait_for_log(). Each has a deadline, says what it saw last, and ends the file when it has
#   waited in vain, because what comes after would wait as long.
# - It looks at work that is still there, because the test itself holds it up: close_gate(), or a lock
#   of its own that the handler waits for.
# - A deadline that must not pass (a lease, a time limit) is far away, or made to pass by SQL.
#
# safe_psql() and wait_until() in the database postgres of a server share one session, which is reset after each call.
# $node->psql() has a new one, and so has all that is asked of a node with {fresh_sessions}.
package Backfill;

use strict;
use warnings FATAL => 'all';

use Errno;
use Exporter 'import';
use File::Temp;
use IO::Handle;
use IO::Select;
use IPC::Run;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  new_server preloaded create_extension set_and_reload wait_until try_until worker_pids wait_for_workers
  running_executor close_gate open_gate start_program start_psql finish_psql run_psqls start_pgbench finish_pgbench resident_kb
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
#   new_server('name', conf => "...", init => { allows_streaming => 1 }, install_path => '/somewhere')
sub new_server
{
	my ($name, %params) = @_;
	my $node = Backfill::Server->new($name, defined $params{install_path} ? (install_path => $params{install_path}) : ());
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

# An assertion: the query comes to return t, or what is expected, which may be a pattern. A result that
# matches `unless` ends the wait at once, because it shows that waiting is in vain. The server may
# restart meanwhile.
sub wait_until
{
	my ($node, $db, $query, $name, $expected, %params) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($came, $seen) = look_for($node, $db, $query, $expected // 't', %params);
	return pass($name) if $came;
	fail($name);
	diag "waited for: " . ($expected // 't') . "\nof the query: $query\nseen last: $seen";
	die "$name: waited in vain\n";
}

# An assertion: a function comes to return true. It returns a list: whether it is content, and what it
# has seen, which is reported. Use it where a single query cannot tell.
sub try_until
{
	my ($name, $try) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	for (;;)
	{
		my ($came, $seen) = $try->();
		return pass($name) if $came;
		if (time >= $deadline)
		{
			fail($name);
			diag 'seen last: ' . ($seen // '');
			die "$name: tried in vain\n";
		}
		pause(0.01);
	}
}

# The one place that sleeps: between two looks.
sub pause { usleep(1e6 * $_[0]); return; }

# Asks again and again. Returns whether the expected answer came, and the last answer.
sub look_for
{
	my ($node, $db, $query, $expected, %params) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	my ($psql, $pause) = (undef, 0.01);
	for (;;)
	{
		$psql //= Backfill::Psql->to($node, $db);
		my $seen = $psql->ask($query, time > $deadline - 10 ? time + 10 : $deadline);
		my $came = ref $expected ? $seen =~ $expected : $seen eq $expected;
		if ($came || time >= $deadline || (defined $params{unless} && $seen =~ $params{unless}))
		{
			$psql->reset;
			return ($came, $seen);
		}
		undef $psql if $psql->{gone};
		pause($pause);
		$pause *= 1.5 if $pause < 0.1;
	}
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

# An assertion: there are `$count` workers of a kind; `$count` may be an SQL comparison.
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

# The process id of an executor that is running a job right now, as soon as there is one. It may be
# done before the caller looks again, unless that job is held up.
sub running_executor
{
	my ($node, $db) = @_;
	my ($came, $seen) = look_for($node, $db,
		"SELECT pid FROM backfill.workers WHERE kind = 'executor' AND job_id IS NOT NULL LIMIT 1", qr/^\d+$/);
	die "no executor runs a job: $seen" unless $came;
	return $seen;
}

# A psql in the background that runs a script; finish_psql() returns (exit code, output, errors).
sub start_psql
{
	my ($node, $db, $sql, @options) = @_;
	return start_program({ in => $sql }, 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', @options, '-d', $node->connstr($db), '-f', '-');
}

sub finish_psql
{
	my ($session) = @_;
	finish_program($session);
	chomp(my $out = $session->{out});
	return ($session->{run}->full_result(0), $out, $session->{err});
}

# A program in the background. The deadline is for the wait until it has ended, not for its life.
sub start_program
{
	my ($program, @command) = @_;
	$program->{$_} = '' for 'out', 'err';
	$program->{timeout} = IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
	$program->{run} = IPC::Run::start(\@command, '<', \$program->{in}, '>', \$program->{out}, '2>', \$program->{err}, $program->{timeout});
	return $program;
}

sub finish_program
{
	my ($program) = @_;
	$program->{timeout}->start;
	$program->{run}->finish;
	return;
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
	return start_program({ in => '' }, 'pgbench', '-n', '-f', "$dir/script.sql", @options, $node->connstr($db));
}

# Waits for its end; returns the exit code (a server that crashes meanwhile makes it fail).
sub finish_pgbench
{
	my ($bench) = @_;
	finish_program($bench);
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

# A setting for all of a running server; processes follow it as they get to it.
sub set_and_reload
{
	my ($node, $setting, $value) = @_;
	$node->append_conf('postgresql.conf', "$setting = $value\n");
	$node->reload;
	return;
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
# `intended`, every run of a job one in `effect`. Some jobs take a while, some fail at first, and
# those with {"gate": true} wait while the gate is closed.

sub create_workload
{
	my ($node, $db) = @_;
	$node->safe_psql(
		$db, q{
		CREATE TABLE intended (token bigint GENERATED ALWAYS AS IDENTITY, kind int);
		CREATE TABLE effect (token bigint, pid int DEFAULT pg_backend_pid(), at timestamptz DEFAULT clock_timestamp());

		CREATE FUNCTION work(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM pg_advisory_xact_lock_shared(20260105) WHERE payload ? 'gate';
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

# Closes the gate: no job of a workload with {"gate": true} gets past it until open_gate(), or until the
# server goes down.
sub close_gate
{
	my ($node, $db) = @_;
	my $gate = $node->background_psql($db);
	$gate->query_safe('SELECT pg_advisory_lock(20260105)');
	return $gate;
}

sub open_gate
{
	my ($gate) = @_;
	eval { $gate->quit }; # the server may have gone meanwhile
	return;
}

# Several calls of produce() in one transaction, of every kind in turn.
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

# --- A server whose sessions in the background have their deadline for each query, not for their life.
package Backfill::Server;

our @ISA = ('PostgreSQL::Test::Cluster');

# The framework of PostgreSQL 17 copies the data directory that INITDB_TEMPLATE names instead of making a new
# one each time, unless options are given; older frameworks are taught it here.
sub init
{
	my ($self, %params) = @_;
	my $template = $ENV{INITDB_TEMPLATE};
	my $run = \&PostgreSQL::Test::Utils::system_or_bail;
	no warnings 'redefine';
	local *PostgreSQL::Test::Utils::system_or_bail = sub {
		my ($program, @arguments) = @_;
		return $run->('cp', '-a', $template, $self->data_dir) if $program eq 'initdb';
		return $run->($program, @arguments);
	  }
	  if defined $template && !defined $params{extra};
	return $self->SUPER::init(%params);
}

# Asks the session that stays. A new one gets a script with options, or with commands of psql; and one that changes what
# a session starts with, or that needs the database for itself.
sub safe_psql
{
	my ($self, $db, $script, @params) = @_;
	my $is_special = $script =~ /\\|\b(?:CREATE|DROP|ALTER)\s+(?:DATABASE|ROLE|USER|SYSTEM)\b/i;
	undef $self->{backfill_psql} if $is_special;
	return $self->SUPER::safe_psql($db, $script, @params) if $is_special || $db ne 'postgres' || $self->{fresh_sessions} || @params;
	my $psql = Backfill::Psql->to($self, $db);
	my ($answer, $errors, $has_failed) = $psql->run($script);
	die "error running SQL: '$errors'\nwith sql '$script'\n" if $has_failed;
	print "#### Begin standard error\n$errors\n#### End standard error\n" if $errors ne '';
	return $answer;
}

# A new session has the new settings, and shows that all others have been told of them.
sub reload
{
	my ($self) = @_;
	undef $self->{backfill_psql};
	return $self->SUPER::reload;
}

sub background_psql
{
	my ($self, @arguments) = @_;
	my $session = $self->SUPER::background_psql(@arguments);
	$session->set_query_timer_restart;
	return bless $session, 'Backfill::Session';
}

sub wait_for_log
{
	my ($self, $pattern, $offset) = @_;
	my $deadline = Time::HiRes::time + $PostgreSQL::Test::Utils::timeout_default;
	for (;;)
	{
		my $log = PostgreSQL::Test::Utils::slurp_file($self->logfile, $offset // 0);
		return ($offset // 0) + length $log if $log =~ $pattern;
		die "waited in vain for $pattern in the log, which goes on with:\n" . substr($log, -3000) if Time::HiRes::time >= $deadline;
		Backfill::pause(0.02);
	}
}

package Backfill::Session;

our @ISA = ('PostgreSQL::Test::BackgroundPsql');

sub quit
{
	my ($self) = @_;
	$self->{timeout}->start;
	return $self->SUPER::quit;
}

# --- A psql that is asked one query after the other. To start one for each, with its session, takes more of a CPU
# than most of the queries.
package Backfill::Psql;

# The one that stays for what is asked of a node, as a superuser in the database postgres; elsewhere a new one, because
# databases are dropped and copied, and for a node with {fresh_sessions}. One that has lost its server is replaced.
sub to
{
	my ($class, $node, $db) = @_;
	return $class->new($node->connstr($db)) if $db ne 'postgres' || $node->{fresh_sessions};
	my $psql = $node->{backfill_psql};
	return $psql if defined $psql && $psql->is_alive;
	return $node->{backfill_psql} = $class->new($node->connstr($db));
}

sub new
{
	my ($class, $connstr) = @_;
	my ($errors, $file) = map { File::Temp->new(DIR => $PostgreSQL::Test::Utils::tmp_check) } 1 .. 2;
	pipe(my $script, my $in) or die "pipe: $!";
	pipe(my $out, my $printed) or die "pipe: $!";
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		my @files = map { fileno $_ } $script, $printed, $errors;
		POSIX::dup2($files[$_], $_) for 0 .. 2;
		# A pipe of another program would not come to its end while this one has it, too.
		POSIX::close($_) for 3 .. 255;
		no warnings 'exec';
		exec { 'psql' } 'psql', '-XqAt', '-d', $connstr, '-f', '-' or POSIX::_exit(127);
	}
	$in->autoflush(1);
	return bless { owner => $$, pid => $pid, in => $in, out => $out, errors => $errors, file => $file, read => 0, count => 0 }, $class;
}

# Another process cannot share it after a fork.
sub is_alive
{
	my ($self) = @_;
	return $self->{owner} == $$ && !$self->{gone} && $self->answer("SELECT 'alive'\n;", Time::HiRes::time + 5) eq "alive\n" && !$self->{gone};
}

# What it prints, errors included; {gone} tells that it has lost its server, or has given no answer until the deadline.
sub ask
{
	my ($self, $query, $deadline) = @_;
	my $answer = $self->answer("$query\n;", $deadline) . $self->errors;
	chomp $answer;
	return $answer;
}

# What a script prints, what it says on its error output, and whether it has failed, which ends the psql. It is in a
# file, because one that is not complete must end there.
sub run
{
	my ($self, $script) = @_;
	my $file = $self->{file};
	truncate $file, 0 or die "truncate: $!";
	seek $file, 0, 0 or die "seek: $!";
	print {$file} $script;
	$file->flush or die "write: $!";
	my $answer = $self->answer("\\set ON_ERROR_STOP 1\n\\i '" . $file->filename . "'\n\\set ON_ERROR_STOP 0");
	chomp $answer;
	my @result = ($answer, $self->errors, $self->{gone});
	$self->reset;
	return @result;
}

# Makes the session much as a new one: settings, the role, locks, temporary tables, prepared statements, LISTEN. Loaded
# libraries and what they have cached stay, and the session has not told its statistics. Where that cannot be, because a
# transaction is open, psql ends.
sub reset
{
	my ($self) = @_;
	return if $self->{gone};
	$self->answer("\\set ON_ERROR_STOP 1\nDISCARD ALL;\n\\set ON_ERROR_STOP 0", Time::HiRes::time + 10);
	$self->errors;
	return;
}

sub answer
{
	my ($self, $script, $deadline) = @_;
	my $end = 'end of answer ' . ++$self->{count};
	local $SIG{PIPE} = 'IGNORE';
	print { $self->{in} } "$script\n\\echo '$end'\n";
	my $answer = '';
	until ($answer =~ s/^\Q$end\E\n\z//m)
	{
		my $left = defined $deadline ? $deadline - Time::HiRes::time : undef;
		if (defined $left && $left <= 0)
		{
			$self->{gone} = 1;
			return $answer . '(no answer until the deadline)';
		}
		# The framework of PostgreSQL 17 has a handler of SIGCHLD, which interrupts both.
		next if !IO::Select->new($self->{out})->can_read($left);
		my $length = sysread($self->{out}, $answer, 65536, length $answer);
		next if !defined $length && $!{EINTR};
		if (!$length)
		{
			$self->{gone} = 1;
			last;
		}
	}
	return $answer;
}

# What it has said on its error output since the last time.
sub errors
{
	my ($self) = @_;
	my $errors = PostgreSQL::Test::Utils::slurp_file($self->{errors}->filename, $self->{read});
	$self->{read} += length $errors;
	return $errors;
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $!, $@);
	return if $self->{owner} != $$;
	close $self->{$_} for 'in', 'out';
	kill('KILL', $self->{pid}) if $self->{gone};
	waitpid($self->{pid}, 0);
	return;
}

1;

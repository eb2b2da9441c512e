# Handlers that take their process or the whole server down. Such a run is charged to its job,
# exactly once, and to no other: in the end the job is a dead letter that says what happened, and
# everything else has run exactly once. A job whose run ends through no fault of its own is not charged.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('poison', conf => "backfill.max_executors = 1\nbackfill.poll_interval = '1h'\nrestart_after_crash = on\nwal_level = replica\n");
my $oracles = "$FindBin::RealBin/../oracles";
my $module = PostgreSQL::Test::Utils::tempdir() . '/poison.so';
chomp(my $include = `pg_config --includedir-server`);
system_or_bail('cc', '-shared', '-fPIC', '-O0', "-I$include", '-o', $module, "$oracles/poison.c");

sub sql { my ($query) = @_; return $node->safe_psql('postgres', $query); }

# An assertion: the query comes to return t.
sub query_until
{
	my ($query, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, 'postgres', $query, $name);
}

create_extension($node);
sql(<<"SQL");
CREATE FUNCTION poison(how text) RETURNS void LANGUAGE c AS '$module';
CREATE TABLE effect (token text, pid int DEFAULT pg_backend_pid());

-- Dies as the payload says; else notes that it has run.
CREATE FUNCTION work(payload jsonb) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
	INSERT INTO effect VALUES (payload->>'token');
	IF payload ? 'poison' THEN
		PERFORM poison(payload->>'poison');
	ELSIF payload ? 'terminate' THEN
		PERFORM pg_terminate_backend(pg_backend_pid());
	ELSIF payload ? 'lock' THEN
		PERFORM pg_advisory_xact_lock((payload->>'lock')::bigint);
	END IF;
END \$\$;
SELECT backfill.set_retry_policy('quick', 2, '1 ms', '1 ms', 1, 0);
SELECT backfill.register_task('work', 'work(jsonb)', retry_policy => 'quick');
SELECT backfill.register_task('poison', 'work(jsonb)', retry_policy => 'quick');
SQL

my $crash = qr/all server processes terminated; reinitializing/;
my $dead = q{SELECT failure_reason FROM backfill.dlq WHERE task_identifier = 'poison'};

# One poisonous job in the middle of innocent ones of the same batch; it must end as a dead letter
# after its two attempts, with this reason, and the server may crash this number of times.
sub poisonous
{
	my ($name, $payload, $crashes, $reason) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $position = log_position($node);
	sql(q{TRUNCATE effect; DELETE FROM backfill.dead_letter});
	# The server may crash before we hear of the commit.
	$node->psql('postgres', qq{
		BEGIN;
		SELECT backfill.enqueue('work', jsonb_build_object('token', i)) FROM generate_series(1, 20) i;
		SELECT backfill.enqueue('poison', '$payload');
		SELECT backfill.enqueue('work', jsonb_build_object('token', i)) FROM generate_series(21, 40) i;
		COMMIT});
	query_until('SELECT count(*) = 0 FROM backfill.job', "$name: all jobs have ended");
	is(sql(q{SELECT count(*), count(DISTINCT token), max(token::int) FROM effect}), '40|40|40', "$name: the innocent ran exactly once");
	my $all = sql($dead);
	like($all, qr/^all 2 attempts failed: $reason/, "$name: the dead letter says what happened");
	is(sql(q{SELECT count(*), min(failure_count), min(last_error->>'sqlstate') FROM backfill.dlq}), '1|2|JB006', "$name: it is the only one, after two attempts");
	is(scalar(log_lines($node, $crash, $position)), $crashes, "$name: the server crashed $crashes times");
	is(scalar(log_lines($node, qr/WARNING:  job \d+ is charged an attempt: $reason/, $position)), 2, "$name: the log warns of each");
	return;
}

my $by_signal = 'the server crashed while it ran: its executor was terminated by signal';
my $no_word = 'the server crashed while it ran: its executor was killed \(signal 9\), or left without a word';
poisonous('a segmentation fault', '{"poison": "segfault"}', 2, "$by_signal 11 \\(Segmentation fault\\)");
poisonous('a stack without end', '{"poison": "stack"}', 2, "$by_signal 11 \\(Segmentation fault\\)");
poisonous('abort()', '{"poison": "abort"}', 2, "$by_signal 6 \\(Aborted\\)");
poisonous('SIGKILL', '{"poison": "kill"}', 2, $no_word);
poisonous('SIGQUIT to itself', '{"poison": "quit"}', 2, $no_word);
poisonous('_exit()', '{"poison": "_exit"}', 2, $no_word);
poisonous('exit()', '{"poison": "exit"}', 0, 'it ended the process that ran it');
poisonous('proc_exit()', '{"poison": "proc_exit"}', 0, 'it ended the process that ran it');
poisonous('a FATAL error', '{"poison": "fatal"}', 0, 'it ended the process that ran it: the poison works');
poisonous('pg_terminate_backend() of itself', '{"terminate": true}', 0, 'it terminated the process that ran it');
sql(qq{CREATE FUNCTION poison_late(jsonb) RETURNS void LANGUAGE c AS '$module';
	SELECT backfill.register_task('poison', 'poison_late(jsonb)', retry_policy => 'quick')});
poisonous('SIGTERM to itself in the last moment', '{}', 0, 'it terminated the process that ran it');
sql(qq{CREATE PROCEDURE poison_late_procedure(jsonb) LANGUAGE c AS '$module', 'poison_late';
	SELECT backfill.register_task('poison', 'poison_late_procedure(jsonb)', retry_policy => 'quick')});
poisonous('SIGTERM to itself in the last moment of a procedure', '{}', 0, 'it terminated the process that ran it');

# The executor survives the crash of a parallel worker for a moment, and is told to quit like all others.
sql(qq{
	CREATE TABLE numbers AS SELECT i FROM generate_series(1, 10000) i;
	ALTER TABLE numbers SET (parallel_workers = 2);
	CREATE FUNCTION poison_in_worker(int) RETURNS int LANGUAGE c PARALLEL SAFE AS '$module';
	CREATE FUNCTION query_in_parallel(payload jsonb) RETURNS void LANGUAGE plpgsql
		SET parallel_setup_cost = 0 SET parallel_tuple_cost = 0 SET parallel_leader_participation = off AS \$\$
	BEGIN
		INSERT INTO effect VALUES (payload->>'token');
		PERFORM sum(poison_in_worker(i)) FROM numbers;
	END \$\$;
	SELECT backfill.register_task('poison', 'query_in_parallel(jsonb)', retry_policy => 'quick')});
poisonous('a crash in a parallel worker', '{}', 2,
	'the server crashed while it ran: a parallel worker of its query was terminated by signal 11 \(Segmentation fault\)');

sql(q{SELECT backfill.register_task('poison', 'work(jsonb)', retry_policy => 'quick')});

# Its history names the executor, not the process that has charged it.
sql(q{DELETE FROM backfill.dead_letter; SELECT backfill.register_task('poison', 'work(jsonb)', retry_policy => 'quick', keep_history => '1 day');
	SELECT backfill.enqueue('poison', '{"terminate": true}')});
query_until('SELECT count(*) = 0 FROM backfill.job', 'a job with a history has ended');
is( sql(q{SELECT outcome, worker ~ '^executor \d+$', started_at < finished_at, earlier_errors->0->>'worker' ~ '^executor \d+$' FROM backfill.history}),
	'dead|t|t|t', 'the history of a job that ended its executor names the executor and the start');

# A job that has more attempts than its policy: the charge makes it wait for the policy's longest delay.
sql(q{DELETE FROM backfill.dead_letter; SELECT backfill.set_retry_policy('short', 2, '1 hour', '1 hour', 1, 0);
	SELECT backfill.register_task('poison', 'work(jsonb)', retry_policy => 'short', max_attempts => 9)});
my $persistent = sql(q{BEGIN; SELECT backfill.enqueue('poison', '{"terminate": true}') AS id \gset
	SELECT FROM backfill.reschedule_jobs(ARRAY[:id], attempts => 5); COMMIT; SELECT :id});
query_until("SELECT attempts = 6 FROM backfill.jobs WHERE id = $persistent", 'beyond the attempts of its policy: an attempt is charged');
is(sql("SELECT state, run_at > now() + '50 minutes' FROM backfill.jobs WHERE id = $persistent"), 'scheduled|t', 'and the next one waits');
sql(qq{SELECT backfill.cancel_job($persistent); SELECT backfill.register_task('poison', 'work(jsonb)', retry_policy => 'quick')});

# Want of memory is an ordinary error, if the server notices.
sql(q{DELETE FROM backfill.dead_letter; SELECT backfill.enqueue('poison', '{"poison": "memory"}')});
query_until('SELECT count(*) = 0 FROM backfill.job', 'no memory: the job has ended');
is(sql(q{SELECT failure_count, last_error->>'sqlstate' FROM backfill.dlq}), '2|53200', 'no memory: an ordinary error');
sql('DELETE FROM backfill.dead_letter');

# While four executors could take the job, it takes two of them down and not more.
sql('ALTER SYSTEM SET backfill.max_executors = 4');
$node->reload;
my $position = log_position($node);
sql(q{SELECT backfill.enqueue('work', jsonb_build_object('token', i)) FROM generate_series(1, 200) i;
	SELECT backfill.enqueue('poison', '{"terminate": true}') FROM generate_series(1, 5);
	SELECT backfill.enqueue('work', jsonb_build_object('token', i)) FROM generate_series(1, 200) i;});
query_until('SELECT count(*) = 0 FROM backfill.job', 'five such jobs, four executors: all jobs have ended');
is(sql('SELECT count(*), min(failure_count), max(failure_count) FROM backfill.dlq'), '5|2|2', 'five dead letters, of two attempts each');
is(scalar(log_lines($node, qr/FATAL:  terminating background worker "backfill executor"/, $position)), 10, 'five such jobs have ended ten executors');

#
# Jobs that are not to be blamed. Two jobs wait for a lock, each in an executor of its own.
#
sub two_waiting_jobs
{
	sql('TRUNCATE effect; DELETE FROM backfill.dead_letter');
	my $holder = $node->background_psql('postgres');
	$holder->query_safe('SELECT pg_advisory_lock(1)');
	sql(q{SELECT backfill.enqueue('work', jsonb_build_object('token', i, 'lock', 1)) FROM generate_series(1, 2) i});
	wait_until($node, 'postgres', q{SELECT count(DISTINCT job_id) = 2 FROM backfill.workers WHERE job_id IS NOT NULL}, 'two executors run a job each');
	return $holder;
}
my $workers = q{SELECT pid, job_id FROM backfill.workers WHERE job_id IS NOT NULL ORDER BY job_id};

# They must both end well, and only the jobs in $charged must have been charged.
sub end_with
{
	my ($name, $charged) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	query_until('SELECT count(*) = 0 FROM backfill.job', "$name: the jobs have ended");
	is(sql('SELECT count(*), count(DISTINCT token) FROM effect'), '2|2', "$name: having run exactly once");
	is(join(' ', map { /job (\d+) is charged/ ? $1 : () } log_lines($node, qr/is charged an attempt/, $position)), $charged, "$name: " . ($charged eq '' ? 'no job is charged' : 'only the culprit is charged'));
	return;
}

my $holder = two_waiting_jobs();
$position = log_position($node);
my ($first) = split /\n/, sql($workers);
my ($pid, $job) = split /\|/, $first;
kill('KILL', $pid);
$node->wait_for_log($crash, $position);
eval { $holder->quit };
end_with('kill -9 of an executor', $job);
like(join("\n", log_lines($node, qr/is charged an attempt/, $position)), qr/$no_word/, 'kill -9 of an executor: as far as one can know');

$holder = two_waiting_jobs();
$position = log_position($node);
($first) = split /\n/, sql($workers);
($pid, $job) = split /\|/, $first;
kill('SEGV', $pid);
$node->wait_for_log($crash, $position);
eval { $holder->quit };
end_with('kill -SEGV of an executor', $job);

$holder = two_waiting_jobs();
$position = log_position($node);
is(sql(q{SELECT count(pg_terminate_backend(pid)) FROM backfill.workers WHERE job_id IS NOT NULL}), 2, 'both executors are terminated');
wait_until($node, 'postgres', qq{SELECT count(*) = 0 FROM pg_stat_activity WHERE pid IN ($pid)}, 'both executors are gone');
$holder->quit;
end_with('pg_terminate_backend()', '');

$holder = two_waiting_jobs();
$position = log_position($node);
my $bystander = $node->background_psql('postgres', on_error_stop => 0);
kill('KILL', $bystander->query_safe('SELECT pg_backend_pid()'));
$node->wait_for_log($crash, $position);
eval { $_->quit } for $holder, $bystander;
end_with('the crash of some session', '');

for my $mode ('immediate', 'fast')
{
	$holder = two_waiting_jobs();
	$position = log_position($node);
	$node->stop($mode);
	eval { $holder->quit };
	$node->start;
	end_with("a shutdown, $mode", '');
}

# The process is gone. It need not be our child.
sub wait_for_end
{
	my ($pid) = @_;
	try_until("process $pid ends", sub { return (!kill(0, $pid), 'it is still there') });
	return;
}

# The postmaster alone is killed; the executors notice and leave.
$holder = two_waiting_jobs();
$position = log_position($node);
my @pids = ($node->{_pid}, map { (split /\|/)[0] } split /\n/, sql($workers)); # the next postmaster looks whether the last one is there
$node->kill9;
eval { $holder->quit };
wait_for_end($_) for @pids;
$node->start;
end_with('kill -9 of the postmaster', '');

# Everything is killed at once. The first time it is unknown whose fault it was; the next time the
# jobs that run again are charged, the others are not.
sub kill_everything
{
	my ($holder) = @_;
	my @executors = map { (split /\|/)[0] } split /\n/, sql($workers);
	my $postmaster = $node->{_pid};
	kill('STOP', $postmaster); # it must not see that they are gone
	kill('KILL', @executors);
	$node->kill9;
	eval { $holder->quit };
	wait_for_end($_) for $postmaster, @executors;
	return;
}
$holder = two_waiting_jobs();
$position = log_position($node);
sql('ALTER SYSTEM SET backfill.max_executors = 0'); # from the next start on
my @jobs = map { (split /\|/)[1] } split /\n/, sql($workers);
kill_everything($holder);
$node->start;
sql("SELECT backfill.cancel_job($jobs[1]); ALTER SYSTEM SET backfill.max_executors = 4");
$holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(1)');
sql(q{SELECT backfill.enqueue('work', '{"token": 3, "lock": 1}')});
$node->reload;
wait_until($node, 'postgres', q{SELECT count(DISTINCT job_id) = 2 FROM backfill.workers WHERE job_id IS NOT NULL}, 'one of the two runs again, and another job');
is(scalar(log_lines($node, qr/is charged an attempt/, $position)), 0, 'all is killed: no job is charged');
kill_everything($holder);
$node->start;
end_with('all is killed again', $jobs[0]);
like(join("\n", log_lines($node, qr/is charged an attempt/, $position)), qr/it ran each time when all processes of the server were killed at once/, 'all is killed again: the reason is in the log');

#
# A server that does not restart by itself: the charge waits in its file for the next start. It is
# not believed if it is of another server, a copy, or damaged.
#
$node->append_conf('postgresql.conf', 'restart_after_crash = off');
$node->reload;
my $ledger = $node->data_dir . '/pg_stat_tmp/backfill_running.dat';

my $down = qr/shutting down because "?restart_after_crash"? is off/; # 17 and later quote the name
# The server goes down with two jobs in it, one of which is to blame; this is done to the ledger.
sub down_with
{
	my ($name, $is_charged, $do) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$holder = two_waiting_jobs();
	$position = log_position($node);
	($pid, $job) = split /\|/, (split /\n/, sql($workers))[0];
	kill('KILL', $pid);
	$node->wait_for_log($down, $position);
	eval { $holder->quit };
	wait_for_end($node->{_pid});
	$node->_update_pid(0);
	$do->();
	$node->start;
	end_with($name, $is_charged ? $job : '');
	return;
}
down_with('a restart by hand', 1, sub { });
down_with('a restart with other settings', 1, sub { $node->append_conf('postgresql.conf', 'max_worker_processes = 21') });
down_with('a copied ledger', 0, sub { system_or_bail('cp', $ledger, "$ledger.copy"); system_or_bail('mv', "$ledger.copy", $ledger) });
down_with('no ledger', 0, sub { unlink $ledger });
down_with('a ledger cut off', 0, sub { truncate $ledger, 100 });

# A charge that was made, and then the server crashes before that is noted: it is not made again.
# The job waits for its second attempt meanwhile.
sql(q{SELECT backfill.set_retry_policy('patient', 5, '1 day', '1 day', 1, 0);
	SELECT backfill.register_task('work', 'work(jsonb)', retry_policy => 'patient')});
my $old_entries;
my $header_size = 256;
sub entries { return substr(slurp_file($ledger), $header_size); }
$holder = two_waiting_jobs();
$position = log_position($node);
($pid, $job) = split /\|/, (split /\n/, sql($workers))[0];
kill('KILL', $pid);
$node->wait_for_log($down, $position);
eval { $holder->quit };
wait_for_end($node->{_pid});
$node->_update_pid(0);
$old_entries = entries();
for my $time ('first', 'second', 'third')
{
	$node->start;
	query_until(q{SELECT count(*) = 1 FROM backfill.jobs}, "the $time time: the other job ends");
	query_until("SELECT attempts = 1 AND state = 'scheduled' FROM backfill.jobs WHERE id = $job", "the $time time: one attempt is charged");
	$node->stop('immediate');
	isnt(entries(), $old_entries, "the $time time: that is noted");
	open my $file, '+<', $ledger or die;
	binmode $file;
	seek $file, $header_size, 0;
	print $file $old_entries;
	close $file;
}
$node->start;
sql("SELECT backfill.cancel_job($job); SELECT backfill.register_task('work', 'work(jsonb)', retry_policy => 'quick')");

# What happened before a promotion is not charged after it. The charge is there: without the
# promotion it is made (above).
down_with('a promotion', 0, sub {
	$node->set_standby_mode;
	$node->start;
	$node->promote;
	$node->stop;
});

$node->stop;
check_log($node, crashes => 1);
done_testing();

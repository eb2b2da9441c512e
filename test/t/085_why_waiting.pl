# why_not_running(): for every reason that a job can wait the answer is right, code and particulars,
# and when the obstacle is gone the job runs. One server with an executor or two, one without
# workers, a standby, and one with too few worker slots.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $sweeping = "backfill.poll_interval = '50ms'\n";
# The dispatcher would bury the job without attempts before it is asked of.
my $node = preloaded('why',
	conf => $sweeping . "backfill.dlq_processor_interval = '1d'\nbackfill.max_executors = 1\nmax_prepared_transactions = 5\nbackfill.executor_idle_timeout = '1h'\n",
	init => { allows_streaming => 1 });
my $setup = q{
	CREATE EXTENSION backfill;
	CREATE TABLE ran (name text);
	CREATE FUNCTION run(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF payload ? 'wait' THEN
			PERFORM backfill.set_progress(0.5, 'half way');
			PERFORM pg_advisory_xact_lock_shared(1);
		END IF;
		-- Not by a wait for a lock, which ends the batch of the jobs before.
		WHILE payload ? 'try' AND NOT pg_try_advisory_xact_lock_shared(1) LOOP END LOOP;
		IF payload ? 'fail' THEN RAISE 'no luck'; END IF;
		INSERT INTO ran VALUES (payload->>'name');
	END $$;
	SELECT backfill.set_retry_policy('slowly', 3, '1 hour', '1 hour', 1, 0);
	SELECT backfill.register_task('run', 'run(jsonb)'), backfill.register_task('gate', 'run(jsonb)'),
	       backfill.register_task('fail', 'run(jsonb)', retry_policy => 'slowly'), backfill.register_task('external'),
	       backfill.register_task('kept', 'run(jsonb)', keep_history => '1 day');
};
$node->safe_psql('postgres', $setup);

sub enqueue
{
	my ($arguments, $server, $db) = @_;
	return ($server // $node)->safe_psql($db // 'postgres', "SELECT backfill.enqueue($arguments)");
}

sub why
{
	my ($id, $server, $db) = @_;
	return ($server // $node)->safe_psql($db // 'postgres', "SELECT backfill.why_not_running($id)");
}

# Assertions: the answer comes to be this, in one line; and: the job comes to an end.
sub is_why
{
	my ($id, $like, $name, $server, $db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($server // $node, $db // 'postgres', "SELECT backfill.why_not_running($id)", $name, $like);
}

sub ends
{
	my ($id, $name, $server, $db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($server // $node, $db // 'postgres', "SELECT NOT EXISTS (SELECT FROM backfill.job WHERE id = $id)", $name);
}

sub configure
{
	my ($server, $name, $value) = @_;
	$server->safe_psql('postgres', "ALTER SYSTEM SET $name = '$value'");
	$server->reload;
	$server->poll_query_until('postgres', "SELECT current_setting('$name') = '$value'") or die "$name is not $value";
	return;
}

my $session = $node->background_psql('postgres');
my $other = $node->background_psql('postgres');
my $session_pid = $session->query_safe('SELECT pg_backend_pid()');
my $other_pid = $other->query_safe('SELECT pg_backend_pid()');

# --- There is no such job, or not yet.

is_why(0, qr/^unknown: no job has had this id; the last one given is 0$/, 'an id before any job');
my $id = enqueue(q{'run'});
ends($id, 'a job runs');
is_why($id, qr/^ended: it was completed, cancelled or removed/, 'a job that has ended');
is_why($id + 1, qr/^unknown: no job has had this id; the last one given is $id$/, 'an id that no job has got yet');
$id = enqueue(q{'kept'});
ends($id, 'a job whose task keeps its history');
is_why($id, qr/^ended: it ended at \d{4}-.*: completed$/, 'says how it ended');
$id = enqueue(q{'run', '{"fail": 1}', max_attempts => 1});
ends($id, 'a job fails');
is_why($id, qr/^dead: it is in the dead letter queue \(id 1\) since \d{4}-.*: the only attempt failed: no luck$/, 'a dead letter');
$node->safe_psql('postgres', q{CREATE ROLE watcher; SELECT backfill.grant_monitor('watcher')});
like($node->safe_psql('postgres', "SET ROLE watcher; SELECT backfill.why_not_running($id)"),
	qr/^dead: it is in the dead letter queue \(id 1\) since \d{4}-[^:]*:[^:]*:[^:]*: error P0001$/, 'a monitor is told the SQLSTATE, not the text');

like($node->safe_psql('postgres', q{BEGIN; SELECT backfill.why_not_running(backfill.enqueue('run')); ROLLBACK}),
	qr/^not_committed: this transaction/, 'a job that the session itself has enqueued just now');
$id = $session->query_safe(q{BEGIN; SELECT backfill.enqueue('run')});
is_why($id, qr/^not_committed: .* by process $session_pid, whose transaction has been open since \d{4}-/, 'a job that another session has enqueued and not committed');
$session->query_safe('COMMIT');
ends($id, 'the other session\'s job runs with its commit');
$id = $node->safe_psql('postgres', q{BEGIN; SELECT backfill.enqueue('run'); PREPARE TRANSACTION 'held'});
is_why($id, qr/^not_committed: .* by the prepared transaction 'held' of \d{4}-/, 'a job that a prepared transaction has enqueued');
$node->safe_psql('postgres', q{COMMIT PREPARED 'held'});
ends($id, 'the prepared job runs with COMMIT PREPARED');

# --- It is not its time.

$id = enqueue(q{'run', run_at => '2100-01-01 00:00 UTC'});
is_why($id, qr/^scheduled: it is due at 2100-01-01 00:00:00.*$/, 'due later');
$node->safe_psql('postgres', "UPDATE backfill.job SET attempts = 8, max_attempts = 8 WHERE id = $id");
is_why($id, qr/^no_attempts: it has no attempts left \(8 of 8\)/, 'due later, but it has no attempts left');
$node->safe_psql('postgres', "SELECT backfill.reschedule_jobs(ARRAY[$id]::bigint[], run_at => now(), attempts => 0)");
ends($id, 'a job that got attempts runs when it is due');
$id = enqueue(q{'fail', '{"fail": 1}'});
is_why($id, qr/^retry_later: attempt 2 of 3 is due at \d{4}-.*; the last error was P0001 no luck$/, 'a retry');

# --- A process has it.

$session->query_safe('SELECT pg_advisory_lock(1)');
my $gate = enqueue(q{'gate', '{"wait": 1}'});
is_why($gate, qr/^running: executor \d+ has been running it since \d{4}-.*, attempt 1 of 8, 50 % done: half way$/, 'a job that was retried runs');
my ($executor) = why($gate) =~ /executor (\d+)/;
is($executor, (worker_pids($node, 'executor'))[0], 'a job that waits for its retry in that executor');

# Behind it: the executor is not free.
$id = enqueue(q{'run'});
my $later = enqueue(q{'run', priority => 1});
is_why($id, qr/^no_executor_free: the only executor is busy: 1 with gate as \S+; 0 ready jobs come before it$/, 'the executor is busy');
is_why($later, qr/; 1 ready job comes before it$/, 'jobs that come first are counted');
$session->query_safe('SELECT pg_advisory_unlock(1)');
ends($later, 'the executor is free');

# A job whose batch goes on: a task that was fast so far shares one.
enqueue(qq{'run', '{"name": "learn"}'}) for 1 .. 20;
wait_until($node, 'postgres', q{SELECT count(*) = 20 FROM ran WHERE name = 'learn'}, 'a task is known to be fast');
$session->query_safe('SELECT pg_advisory_lock(1)');
my @batch = split /\n/, $node->safe_psql('postgres',
	q{SELECT backfill.enqueue('run', p) FROM unnest(ARRAY['{}', '{"try": 1}']::jsonb[]) WITH ORDINALITY u (p, n) ORDER BY n});
is_why($batch[1], qr/^running: executor $executor has been running it/, 'the second job of a batch runs');
is_why($batch[0], qr/^running: executor $executor has run it and is about to commit$/, 'the first one has run');
$session->query_safe('SELECT pg_advisory_unlock(1)');
ends($batch[1], 'both jobs of the batch end');

# Rows that are locked or changed by sessions. The paused queue keeps executors away until then.
$node->safe_psql('postgres', q{SELECT backfill.pause_queue('held')});
$id = enqueue(q{'run', queue_name => 'held'});
is_why($id, qr/^queue_paused: queue "held" is paused/, 'a paused queue');
$session->query_safe("BEGIN; SELECT FROM backfill.job WHERE id = $id FOR UPDATE");
$node->safe_psql('postgres', q{SELECT backfill.resume_queue('held')});
is_why($id, qr/^row_locked: its row is locked by process $session_pid, whose transaction has been open since \d{4}-/, 'a job whose row is locked');
is($node->safe_psql('postgres', "SELECT state FROM backfill.jobs WHERE id = $id"), 'ready', 'a locked job is not to run');
$session->query_safe('COMMIT');
ends($id, 'unlocked, it runs');
$node->safe_psql('postgres', q{SELECT backfill.pause_queue('held')});
$id = enqueue(q{'run', queue_name => 'held'});
$_->query_safe("BEGIN; SELECT FROM backfill.job WHERE id = $id FOR KEY SHARE") for $session, $other;
$node->safe_psql('postgres', q{SELECT backfill.resume_queue('held')});
is_why($id, qr/^row_locked: its row is locked by process (?:$session_pid|$other_pid), /, 'a job whose row two sessions lock');
$session->query_safe('COMMIT');
is_why($id, qr/^row_locked: its row is locked by process $other_pid, /, 'a job that one of two sessions still locks');
is($node->safe_psql('postgres', "SELECT state FROM backfill.jobs WHERE id = $id"), 'ready', 'the view says that a locked job is ready');
$other->query_safe('COMMIT');
ends($id, 'unlocked by both, it runs');
for my $statement ('UPDATE backfill.job SET priority = 1', 'DELETE FROM backfill.job')
{
	$node->safe_psql('postgres', q{SELECT backfill.pause_queue('held')});
	$id = enqueue(q{'run', queue_name => 'held'});
	$session->query_safe("BEGIN; $statement WHERE id = $id");
	$node->safe_psql('postgres', q{SELECT backfill.resume_queue('held')});
	is_why($id, qr/^claimed: its row is being run, changed or deleted by process $session_pid, /, "$statement in an open transaction");
	$session->query_safe('ROLLBACK');
	ends($id, 'rolled back, it runs');
}
$session->query_safe('BEGIN; LOCK TABLE backfill.job IN SHARE MODE');
$id = $session->query_safe('SELECT max(id) FROM backfill.job');
is_why($id, qr/^table_locked: the table backfill.job is locked by process $session_pid \(ShareLock\)$/, 'the table is locked against writers');
$session->query_safe('LOCK TABLE backfill.job IN ACCESS EXCLUSIVE MODE');
is_why($id, qr/^table_locked: .* process $session_pid \(AccessExclusiveLock\)/, 'the table is locked against all sessions');
$session->query_safe('ROLLBACK; BEGIN; LOCK TABLE backfill.task IN ACCESS EXCLUSIVE MODE');
# An older session has read the tasks already and needs no lock, so a new one asks.
like(join('', $node->psql('postgres', "SELECT backfill.why_not_running($id)")), qr/^0table_locked: a table of the extension is locked/, 'a lock of another table is not waited for');
$session->query_safe('ROLLBACK');
is_why($id, qr/^retry_later: /, 'the locks are gone');

# --- No process can run it.

$id = enqueue(q{'newcomer'});
is_why($id, qr/^unregistered: task "newcomer" is not registered/, 'an unregistered task');
$node->safe_psql('postgres', q{SELECT backfill.register_task('newcomer', 'run(jsonb)')});
ends($id, 'registered, it runs');

# --- Consumers.

my @external = map { enqueue(q{'external', queue_name => 'for consumers'}) } 1 .. 2;
is_why($external[0], qr/^no_consumer: task "external" has no handler: .*; no consumer has a job of this task now$/, 'no consumer claims it');
my $claim = $node->safe_psql('postgres', q{SELECT claim_token FROM backfill.claim_jobs('consumer 1', max_jobs => 1)});
is_why($external[0], qr/^leased: consumer "consumer 1" has it until \d{4}-/, 'a consumer has claimed it');
is_why($external[1], qr/^no_consumer: .*; these have jobs of this task now: "consumer 1"$/, 'the consumers that could claim another');

# --- Queues.

$node->safe_psql('postgres', q{SELECT backfill.set_queue('for consumers', 1)});
is_why($external[1], qr/^queue_full: queue "for consumers" runs 1 job at a time: consumer "consumer 1" with job $external[0]; 0 ready jobs come before it$/,
	'a lease from before the limit takes a place');
$node->safe_psql('postgres', "SELECT backfill.complete_jobs(ARRAY[$external[0]]::bigint[], $claim)");
$claim = $node->safe_psql('postgres', q{SELECT claim_token FROM backfill.claim_jobs('consumer 2', max_jobs => 1)});
$external[2] = enqueue(q{'external', queue_name => 'for consumers'});
is_why($external[2], qr/^queue_full: queue "for consumers" runs 1 job at a time: consumer "consumer 2" with job $external[1]; 0 ready jobs come before it$/,
	'a queue that a lease fills');
$node->safe_psql('postgres', "SELECT backfill.complete_jobs(ARRAY[$external[1]]::bigint[], $claim)");
is_why($external[2], qr/^no_consumer: /, 'the end of a lease makes room in its queue');

configure($node, 'backfill.max_executors', 2);
$node->safe_psql('postgres', q{SELECT backfill.set_queue('serial', 1)});
$session->query_safe('SELECT pg_advisory_lock(1)');
$gate = enqueue(q{'gate', '{"wait": 1}', queue_name => 'serial'});
is_why($gate, qr/^running: /, 'the first job of a serial queue runs');
my @serial = map { enqueue(q{'run', queue_name => 'serial'}) } 1 .. 2;
is_why($serial[0], qr/^queue_full: queue "serial" runs 1 job at a time: executor \d+ with job $gate; 0 ready jobs come before it$/, 'the second job of a serial queue waits for the first');
is_why($serial[1], qr/; 1 ready job comes before it$/, 'the third for two');
$session->query_safe('SELECT pg_advisory_unlock(1)');
ends($serial[1], 'all jobs of a serial queue run, one after the other');

$node->safe_psql('postgres', q{SELECT backfill.set_queue('slow', rate_limit => 1, rate_period => '1 hour')});
my @slow = map { enqueue(q{'run', queue_name => 'slow'}) } 1 .. 2;
is_why($slow[1], qr/^rate_limited: queue "slow" has used up its rate; it starts the next job at \d{4}-/, 'a queue that has used up its rate');
$node->safe_psql('postgres', q{SELECT backfill.set_queue('slow')});
ends($slow[1], 'a job without the rate limit runs');

# --- Executors for urgent jobs only, none at all.

configure($node, 'backfill.reserved_urgent_executors', 1);
$session->query_safe('SELECT pg_advisory_lock(1)');
$gate = enqueue(q{'gate', '{"wait": 1}'});
is_why($gate, qr/^running: /, 'a job that is not urgent runs');
$id = enqueue(q{'run'});
is_why($id, qr/^reserved: 1 of 2 executors are reserved for urgent jobs, and the others are busy: .*1 with gate as \S+.*; 0 ready jobs come before it$/,
	'a job that is not urgent waits: an executor is kept for urgent ones');
my $urgent = enqueue(q{'run', priority => -20});
ends($urgent, 'an urgent job gets the executor that is kept');
$session->query_safe('SELECT pg_advisory_unlock(1)');
ends($id, 'the job that is not urgent runs in the end');
configure($node, 'backfill.reserved_urgent_executors', 0);

configure($node, 'backfill.max_executors', 0);
wait_for_workers($node, 'executor', undef, 0, 'no executors any more');
$id = enqueue(q{'run'});
is_why($id, qr/^no_executors: backfill.max_executors is 0$/, 'no executors are allowed');
configure($node, 'backfill.max_executors', 1);
ends($id, 'an executor is allowed, and the job runs');

# --- The role cannot log in.

$node->safe_psql('postgres', q{
	CREATE ROLE worker LOGIN; GRANT INSERT ON ran TO worker; GRANT EXECUTE ON FUNCTION run(jsonb) TO worker;
	SELECT backfill.grant_producer('worker');
	SELECT backfill.register_task('as worker', 'run(jsonb)', run_as => 'worker')});
SKIP:
{
	skip 'workers need no LOGIN', 1 if $node->pg_version >= 17;
	$node->safe_psql('postgres', 'ALTER ROLE worker NOLOGIN');
	$id = enqueue(q{'as worker'});
	is_why($id, qr/^role_cannot_log_in: no executor can log in as role "worker": it has no LOGIN$/, 'a role without LOGIN');
}
$node->safe_psql('postgres', q{REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; ALTER ROLE worker LOGIN});
$id = enqueue(q{'as worker'});
is_why($id, qr/^role_cannot_log_in: no executor can log in as role "worker": it may not CONNECT to the database$/, 'a role without CONNECT');
# After a failed start, whatever its reason was, there is a pause.
try_until(
	'until the next try',
	sub {
		$node->safe_psql('postgres', q{REVOKE CONNECT ON DATABASE postgres FROM PUBLIC});
		$id = enqueue(q{'as worker'});
		wait_until($node, 'postgres', 'SELECT cardinality(held_roles) > 0 FROM backfill._server_state()', 'a role is held');
		my $held = $node->safe_psql('postgres', "GRANT CONNECT ON DATABASE postgres TO PUBLIC; SELECT backfill.why_not_running($id)");
		return ($held =~ /^role_cannot_log_in: no executor can log in as role "worker", see the server's log; the next try is at \d{4}-/, $held);
	});
ends($id, 'when it can, the job runs');

# --- No worker was told of it: rows that came past the engine.

configure($node, 'backfill.poll_interval', '1h');
my $by_hand = q{INSERT INTO backfill.job (run_at, created_at, priority, attempts, max_attempts, free_retries, task_identifier, queue_name, payload)
	VALUES ('2000-01-01', now(), %d, 0, 3, 0, '%s', '', '{}') RETURNING id};
# The dispatcher may have been about to sweep when it read that.
$node->safe_psql('postgres', q{SELECT backfill.register_task('silent', 'run(jsonb)')});
$node->safe_psql('postgres', sprintf($by_hand, 0, 'silent'));
ends(enqueue(q{'newcomer'}), 'the dispatcher and the executor have looked');
# Another row each time, because an executor that happens to look runs it.
try_until(
	'a row that no commit has announced is ready',
	sub {
		$id = $node->safe_psql('postgres', sprintf($by_hand, 0, 'silent'));
		my $why = why($id);
		return ($why =~ /^ready: an executor takes it now, or at the latest after the dispatcher's next sweep$/, $why);
	});
# An executor that happens to look makes it a dead letter.
try_until(
	'a job whose handler is gone',
	sub {
		my $why = $node->safe_psql('postgres', sprintf($by_hand, 0, 'silent') . q{ \gset
DROP FUNCTION run(jsonb) CASCADE;
SELECT backfill.why_not_running(:id);
CREATE FUNCTION run(payload jsonb) RETURNS void LANGUAGE sql AS ''});
		return ($why =~ /^handler_unusable: an executor takes it now, but it will fail: handler public.run\(jsonb\) of task "silent" does not exist$/, $why);
	});
# Dead entries before the first ready job raise the mark of their range.
my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
$node->safe_psql('postgres', q{SELECT count(backfill.enqueue('newcomer', queue_name => 'marked', priority => 3)) FROM generate_series(1, 300)});
wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM backfill.job WHERE queue_name = 'marked'}, 'many jobs run');
$node->safe_psql('postgres', q{SELECT count(backfill.enqueue('newcomer', queue_name => 'marked', priority => 3)) FROM generate_series(1, 3)});
wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM backfill.job WHERE queue_name = 'marked'}, 'more jobs run');
my $hidden = $node->safe_psql('postgres', sprintf($by_hand =~ s/'', '\{\}'/'marked', '{}'/r, 3, 'newcomer'));
is_why($hidden, qr/^unannounced: the executors were not told of it/, 'an unannounced job that executors do not even see');
$reader->query_safe('COMMIT');
$reader->quit;
configure($node, 'backfill.poll_interval', '50ms');
ends($hidden, 'the sweep finds it');
ends($id, 'the sweep finds the hidden job, too');

# --- A standby.

$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
$id = enqueue(q{'external'});
$node->wait_for_catchup($standby);
is_why($id, qr/^standby: this server is in recovery/, 'on a standby nothing runs', $standby);
is_why($hidden, qr/^ended: /, 'but one can look', $standby);
$standby->stop;

# --- The database is not served.

$session->quit;
$other->quit;
$node->append_conf('postgresql.conf', "backfill.databases = 'elsewhere'\n");
$node->restart;
wait_for_workers($node, 'dispatcher', undef, 0, 'no dispatcher: the database is not named in backfill.databases');
$id = enqueue(q{'run'});
is_why($id, qr/^database_not_served: backfill.databases does not name database "postgres"$/, 'no dispatcher: another database is named');
is_why($external[2], qr/; no dispatcher runs, so those that listen on channel "backfill" are not told$/, 'consumers hear nothing then');
$claim = $node->safe_psql('postgres', q{SELECT claim_token FROM backfill.claim_jobs('consumer 3', max_jobs => 1)});
$node->safe_psql('postgres', "UPDATE backfill.job SET lease_expires_at = now() - interval '1 hour' WHERE id = $external[2]");
is_why($external[2], qr/^lease_expired: the lease of consumer "consumer 3" ran out at \d{4}-.*; the next claim_jobs\(\) makes it ready again$/, 'a lease that no process ends');
$node->safe_psql('postgres', q{
	CREATE ROLE leaver LOGIN; GRANT EXECUTE ON FUNCTION run(jsonb) TO leaver;
	SELECT backfill.register_task('orphan', 'run(jsonb)', run_as => 'leaver');
	DROP OWNED BY leaver; DROP ROLE leaver});
my $orphan = enqueue(q{'orphan'});
is_why($orphan, qr/^role_missing: role "leaver" of task "orphan" does not exist: its jobs become dead letters$/, 'a role that is gone');
$node->append_conf('postgresql.conf', "backfill.databases = '*'\n");
$node->reload;
ends($id, 'the database is named, and its job runs');
ends($orphan, 'jobs without a role end');
is_why($orphan, qr/^dead: .*role "leaver" of task "orphan" does not exist/, 'jobs without a role end as dead letters');

$node->safe_psql('postgres', 'CREATE DATABASE template IS_TEMPLATE true');
$node->safe_psql('template', $setup);
$id = enqueue(q{'run'}, $node, 'template');
is_why($id, qr/^database_not_served: database "template" is a template, or allows no connections/, 'a template', $node, 'template');

# The launcher stands still, so the dispatcher does not come back.
my ($launcher) = worker_pids($node, 'launcher');
kill 'STOP', $launcher;
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type IN ('backfill dispatcher', 'backfill executor')});
wait_for_workers($node, 'executor', undef, 0, 'the executors are ended');
$id = enqueue(q{'run'});
is_why($id, qr/^no_dispatcher: no dispatcher runs in this database; the launcher starts one/, 'no dispatcher in a template database');
kill 'CONT', $launcher;
ends($id, 'the dispatcher comes back, and the job runs');

# A command that needs the database to itself ends the workers. Our own session makes it wait five seconds.
$node->safe_psql('postgres', 'CREATE DATABASE wanted');
$node->safe_psql('wanted', $setup);
my $inside = $node->background_psql('wanted');
try_until(
	'a command that wants the database for itself',
	sub {
		my $copying = $node->background_psql('postgres', on_error_stop => 0);
		$copying->query_until(qr/started/, "\\echo started\nCREATE DATABASE copy TEMPLATE wanted;\n");
		# On a busy machine it may have given up before we look.
		wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CREATE DATABASE copy%'}, 'CREATE DATABASE has begun');
		$id = $inside->query_safe(q{SELECT backfill.enqueue('run')});
		my $answer = $inside->query_safe("SELECT backfill.why_not_running($id)");
		$copying->quit;
		return ($answer =~ /^database_blocked: process \d+ has ended the workers of this database for the time of its command/, $answer);
	});
$inside->quit;
ends($id, 'it is over, and the job runs', $node, 'wanted');

# --- Its last run has ended its process, or its executor has gone; the dispatcher is held up.

$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION ends_itself(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT pg_terminate_backend(pg_backend_pid()) $$;
	CREATE PROCEDURE takes_long(payload jsonb) LANGUAGE plpgsql AS $$
	BEGIN
		COMMIT;
		PERFORM pg_advisory_xact_lock_shared(1);
	END $$;
	CREATE FUNCTION waits(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_xact_lock_shared(1) $$;
	SELECT backfill.register_task('ends_itself', 'ends_itself(jsonb)', retry_policy => 'slowly'), backfill.register_task('takes_long', 'takes_long(jsonb)'),
	       backfill.register_task('waits', 'waits(jsonb)')});
$session->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', q{SELECT backfill.set_queue('procedures', 1)});
my $procedure = enqueue(q{'takes_long', queue_name => 'procedures'});
is_why($procedure, qr/^running: executor \d+ has been running it since \d{4}-.*, attempt 1 of 8$/, 'a procedure runs');
my $next = enqueue(q{'takes_long', queue_name => 'procedures'});
is_why($next, qr/^queue_full: queue "procedures" runs 1 job at a time: executor \d+ with job $procedure; 0 ready jobs come before it$/, 'a procedure fills its queue');
my ($dispatcher) = worker_pids($node, 'dispatcher', 'postgres');
my ($executor_pid) = worker_pids($node, 'executor', 'postgres');
kill 'STOP', $dispatcher;
$node->safe_psql('postgres', "SELECT pg_terminate_backend($executor_pid)");
is_why($procedure, qr/^run_lost: executor $executor_pid, which ran it, has ended: the dispatcher makes it ready again$/, 'a procedure whose executor has ended');
$session->query_safe('SELECT pg_advisory_unlock(1)');
kill 'CONT', $dispatcher;
ends($procedure, 'the dispatcher goes on, and it runs');
ends($next, 'the job behind the procedure runs');

# A procedure that has ended its executor is charged, also if its task is no longer registered.
$node->safe_psql(
	'postgres', q{
	CREATE PROCEDURE ends_itself_too(payload jsonb) LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); END $$;
	SELECT backfill.register_task('ends_itself_too', 'ends_itself_too(jsonb)')});
$session->query_safe('SELECT pg_advisory_lock(1)');
$next = enqueue(q{'takes_long'});
is_why($next, qr/^running: /, 'an executor is there, and busy');
$procedure = enqueue(q{'ends_itself_too'});
($dispatcher) = worker_pids($node, 'dispatcher', 'postgres');
kill 'STOP', $dispatcher;
$session->query_safe('SELECT pg_advisory_unlock(1)');
is_why($procedure, qr/^uncharged: /, 'a procedure whose run is to be charged');
$node->safe_psql('postgres', q{SELECT backfill.unregister_task('ends_itself_too')});
kill 'CONT', $dispatcher;
wait_until($node, 'postgres', "SELECT attempts, lease_expires_at IS NULL FROM backfill.job WHERE id = $procedure", 'it is charged', '1|t');
$node->safe_psql('postgres', "SELECT backfill.cancel_job($procedure)");

$session->query_safe('SELECT pg_advisory_lock(1)');
my $before = enqueue(q{'waits'});
is_why($before, qr/^running: /, 'an executor is busy');
$id = enqueue(q{'ends_itself'});
($dispatcher) = worker_pids($node, 'dispatcher', 'postgres');
kill 'STOP', $dispatcher;
$session->query_safe('SELECT pg_advisory_unlock(1)');
is_why($id, qr/^uncharged: its last run has ended the process that ran it/, 'the end of its process is not counted yet');
kill 'CONT', $dispatcher;
is_why($id, qr/^retry_later: attempt 2 of 3 is due at .*; the last error was JB006 /, 'a job whose run has been charged');
ends($before, 'the job before the charged one has run');

# --- The extension's version.

$node->safe_psql('postgres', q{UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'backfill'});
$node->restart;
$id = enqueue(q{'run'});
is_why($id, qr/^version_mismatch: the extension has version "0.0.1", the library "[0-9.]+": run ALTER EXTENSION/, 'the extension has another version than the library');
my $version = $node->safe_psql('postgres', 'SELECT backfill.version()');
$node->safe_psql('postgres', "UPDATE pg_extension SET extversion = '$version' WHERE extname = 'backfill'");
ends($id, 'the extension has the library\'s version, and the job runs');
$node->stop;

# --- Worker slots: the launcher and the server's own launcher of subscriptions have one each.

$node->append_conf('postgresql.conf', "max_worker_processes = 2\n");
$node->start;
$id = enqueue(q{'run'});
is_why($id, qr/^no_worker_slot: no background worker slot is free for a dispatcher: raise max_worker_processes \(2\)$/, 'no slot for a dispatcher');
$node->append_conf('postgresql.conf', "max_worker_processes = 3\nbackfill.databases = 'postgres'\n");
$node->restart;
is_why($id, qr/^no_worker_slot: no background worker slot is free for an executor: raise max_worker_processes \(3\)$/, 'no slot for an executor');
$node->append_conf('postgresql.conf', "max_worker_processes = 4\n");
$node->restart;
ends($id, 'with one more slot the job runs');
$node->stop;

# --- Not preloaded.

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->start;
$id = enqueue(q{'run'});
is_why($id, qr/^not_preloaded: backfill is not in shared_preload_libraries: run jobs with CALL/, 'the library is not preloaded');
$node->safe_psql('postgres', 'CALL backfill.process_available_jobs()');
ends($id, 'the session itself runs it');
$node->stop;

check_log($node);
check_log($standby);
done_testing();

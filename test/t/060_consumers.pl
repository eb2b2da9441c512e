# External consumers and time: leases run out exactly, also when consumers are killed; NOTIFY
# comes at once, but not more often than it may; sessions that wait hold no snapshot; limits
# hold across consumers and executors; and nothing needs the library to be preloaded. With
# poll_interval at one hour nothing happens by polling.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = preloaded('consumers', conf => "backfill.poll_interval = '1h'\nbackfill.max_executors = 4\nbackfill.notify_interval = '200ms'\n");
create_extension($node);
$node->safe_psql('postgres', q{SELECT backfill.register_task('ext', max_attempts => 3), backfill.register_task('own', notify_channel => 'Own Channel')});
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub empty { sql('TRUNCATE backfill.job RESTART IDENTITY'); return; }

# --- Waiting.

# A session that waits, until it does: active, and in the wait itself. The argument is what it does then.
sub start_waiting
{
	my ($arguments, $then) = @_;
	my $session = start_psql($node, 'postgres', "SET application_name = 'waiting';\nCALL backfill.wait_for_jobs($arguments);\n" . ($then // ''));
	$session->{run}->pump;
	wait_until($node, 'postgres', q{SELECT count(*) > 0 FROM pg_stat_activity
		WHERE application_name = 'waiting' AND state = 'active' AND wait_event_type = 'Extension'}, "a session waits ($arguments)");
	return $session;
}
sub is_woken
{
	my ($session, $name) = @_;
	my ($code, $out, $err) = finish_psql($session);
	is("$code " . $out . $err, '0 t', $name);
	return;
}

my $waiting = start_waiting("'1 minute'");
is(sql(q{SELECT backend_xmin IS NULL, backend_xid IS NULL FROM pg_stat_activity WHERE application_name = 'waiting'}), 't|t',
	'the session that waits holds no snapshot');
is(sql(q{SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'waiting' AND l.locktype <> 'virtualxid'}),
	0, 'the session that waits holds no lock');
sql('VACUUM FULL backfill.job');
sql(q{SELECT backfill.enqueue('ext', '1')});
is_woken($waiting, 'a commit wakes it');

empty();
my @waiting = map { start_waiting("'1 minute', tasks => '{ext,other}'") } (1 .. 3);
sql(q{SELECT backfill.enqueue('own')});
sql(q{SELECT backfill.enqueue('other')});
is_woken($_, 'a job of an unregistered task wakes every session that names it') for @waiting;

empty();
$waiting = start_waiting("'1 minute'");
sql(q{SELECT backfill.enqueue('ext', run_at => clock_timestamp() + interval '300 ms')});
is_woken($waiting, 'a job that becomes due wakes it');
my $token = sql(q{SELECT claim_token FROM backfill.claim_jobs('w', lease => '1 hour')});
$waiting = start_waiting("'1 minute'");
sql("SELECT backfill.heartbeat($token, '300 ms')");
is_woken($waiting, 'a lease that runs out wakes it');
is(sql(q{SELECT attempts, state, last_error->>'sqlstate' FROM backfill.jobs}), '1|ready|JB005', 'the attempt counts');

sql(q{SELECT backfill.pause_queue('bulk')});
$waiting = start_waiting("'1 minute'");
sql(q{SELECT backfill.resume_queue('bulk')});
is_woken($waiting, 'a queue that is resumed wakes it');

empty();
sql(q{SELECT backfill.set_queue('serial', 1), backfill.enqueue('ext', queue_name => 'serial')});
sql(q{SELECT backfill.enqueue('ext', queue_name => 'serial')});
$token = sql(q{SELECT claim_token FROM backfill.claim_jobs('w', 5, queues => '{serial}')});
$waiting = start_waiting("'1 minute', queues => '{serial}'");
sql(qq{SELECT backfill.complete_jobs((SELECT array_agg(id) FROM backfill.job), $token)});
is_woken($waiting, 'a place in a queue that is given back wakes it');

empty();
sql(q{SELECT backfill.enqueue('ext')});
my $claimer = $node->background_psql('postgres');
is($claimer->query_safe(q{BEGIN; SELECT count(*) FROM backfill.claim_jobs('w', max_jobs => 5)}), 1, 'a claim that is not committed');
$waiting = start_waiting("'1 minute'");
$claimer->query_safe('ROLLBACK');
is_woken($waiting, 'a claim that is rolled back wakes it');
$claimer->quit;

empty();
$waiting = start_waiting("'1 hour'");
sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'waiting'});
like((finish_psql($waiting))[2], qr/canceling statement due to user request/, 'wait_for_jobs() can be cancelled');
like((finish_psql(start_psql($node, 'postgres', q{SET statement_timeout = '100ms'; CALL backfill.wait_for_jobs('1 hour')})))[2],
	qr/canceling statement due to statement timeout/, 'wait_for_jobs() obeys statement_timeout');

# --- A consumer that is killed: its job is ready again when its lease is over, and the tokens
# of before are worth nothing. The lease ends when all is in place to see that.

empty();
sql(q{SELECT backfill.enqueue('ext', '"killed"')});
my $killed = start_psql($node, 'postgres', q{SELECT claim_token FROM backfill.claim_jobs('killed', lease => '1 hour'); CALL backfill.wait_for_jobs('1 hour', tasks => '{nothing}');} . "\n");
$killed->{run}->pump;
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM backfill.jobs WHERE worker = 'killed'}, 'a consumer has the job');
my $old = sql(q{SELECT claim_token FROM backfill.job});
$killed->{run}->kill_kill;
$waiting = start_waiting("'1 minute'", "SELECT extract(epoch FROM clock_timestamp());\n");
my $expires = sql(qq{BEGIN; SELECT count(*) FROM backfill.heartbeat($old, '1 s') \\gset
	SELECT extract(epoch FROM lease_expires_at) FROM backfill.job; COMMIT});
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM backfill.jobs WHERE state = 'ready' AND lease_expires_at IS NULL}, 'the job of a lease that ran out is ready again');
my ($woken, $woken_at) = split /\n/, (finish_psql($waiting))[1];
my $late = $woken_at - $expires;
is($woken, 't', 'a lease that runs out wakes a session that waits');
cmp_ok($late, '>=', 0, 'the session is not woken before the lease is over');
cmp_ok($late, '<', 10, 'the session is woken soon after, by a timer');
note sprintf 'told %.0f ms after the lease was over', 1000 * $late;
my $new = sql(q{SELECT claim_token FROM backfill.claim_jobs('next', lease => '1 hour')});
is(sql("SELECT count(*) FROM backfill.complete_jobs('{1}', $old)"), 0, 'the old token completes nothing');
is(sql("SELECT backfill.fail_job(1, $old, 'no', true)"), 'lost', 'the old token fails nothing');
is(sql("SELECT backfill.complete_jobs('{1}', $new)"), 1, 'the new one does');

# Heartbeats keep a job longer than the lease; a shorter lease counts at once. The heartbeats come
# from within the server: a new psql for each could be slower than the lease.
sql(q{SELECT backfill.enqueue('ext')});
$node->safe_psql(
	'postgres', q{
	CREATE PROCEDURE beat(token bigint) LANGUAGE plpgsql AS $$
	DECLARE
		began timestamptz := clock_timestamp();
		kept int;
	BEGIN
		LOOP
			SELECT count(*) INTO kept FROM backfill.heartbeat(token, '2 s');
			COMMIT;
			IF kept <> 1 THEN RAISE 'lost after %', clock_timestamp() - began; END IF;
			EXIT WHEN clock_timestamp() - began > '2500 ms';
			PERFORM pg_sleep(0.05);
		END LOOP;
	END $$});
my $state;
($state, $token) = split /\n/, sql(q{SELECT claim_token FROM backfill.claim_jobs('w', lease => '2 s') \gset
	CALL beat(:claim_token);
	SELECT attempts, state FROM backfill.jobs;
	SELECT backfill.heartbeat(:claim_token, '1 hour') \gset
	SELECT :claim_token});
is($state, '0|leased', 'heartbeats keep a job');
sql("SELECT backfill.heartbeat($token, '10 ms')");
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM backfill.jobs WHERE state = 'ready' AND attempts = 1}, 'a lease that was made shorter runs out');
# The last attempts are lost, too: a dead letter.
for my $n (1, 2)
{
	sql(q{SELECT backfill.claim_jobs('w', lease => '1 ms')});
	wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM backfill.job WHERE lease_expires_at IS NOT NULL}, 'lost again');
}
is(sql('SELECT failure_reason, failure_count FROM backfill.dlq'), 'all 3 attempts failed: the lease of worker "w" ran out|3', 'a dead letter');
# A claim that was committed after its lease was over.
sql(q{SELECT backfill.enqueue('ext')});
$claimer = $node->background_psql('postgres');
$claimer->query_safe(q{BEGIN; SELECT count(*) FROM backfill.claim_jobs('w', lease => '1 ms')});
$claimer->query_safe('COMMIT');
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM backfill.jobs WHERE state = 'ready' AND attempts = 1 AND worker IS NULL}, 'a claim that came too late');
$claimer->quit;

# --- NOTIFY.

empty();
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN backfill; LISTEN "Own Channel"; CREATE TEMP TABLE t ()');
# How many notifications on a channel have come since it was last asked about; psql reports them after a query.
my %came;
sub notified
{
	my ($channel) = @_;
	my ($out) = $listener->query('SELECT 1');
	$came{$1}++ while $out =~ /Asynchronous notification "([^"]*)" received/g;
	return delete $came{$channel} // 0;
}
sub notified_within
{
	my ($channel) = @_;
	for (my $since = time(); time() - $since < $PostgreSQL::Test::Utils::timeout_default;)
	{
		my $n = notified($channel);
		return $n if $n > 0;
	}
	return 0;
}
sql(q{SELECT backfill.enqueue('own')});
is(notified_within('Own Channel'), 1, 'a commit is notified, on the channel of the task');
sql(q{SELECT backfill.enqueue('ext')});
is(notified_within('backfill'), 1, 'a task without a channel is notified on the default channel');
sql(q{SELECT id FROM backfill.claim_jobs('w', max_jobs => 9, lease => '500 ms')});
cmp_ok(notified_within('backfill'), '>=', 1, 'a lease that runs out is notified');
sql(q{SELECT id FROM backfill.claim_jobs('w', max_jobs => 9)});
notified($_) for 'backfill', 'Own Channel';
my $later = sql(q{SELECT backfill.enqueue('ext', run_at => clock_timestamp() + interval '1 hour')});
sql(q{SELECT backfill.enqueue('own')});
is(notified_within('Own Channel'), 1, 'when the dispatcher has looked');
is(notified('backfill'), 0, 'a scheduled job is not notified before');
sql("SELECT count(*) FROM backfill.reschedule_jobs(ARRAY[$later]::bigint[], clock_timestamp() + interval '300 ms')");
cmp_ok(notified_within('backfill'), '>=', 1, 'a scheduled job is notified when it becomes due');

# Producers at full speed: their commits never notify, and the dispatcher not too often.
my $began = time();
is(finish_pgbench(start_pgbench($node, 'postgres', q{SELECT backfill.enqueue('ext'), backfill.enqueue('own');}, '-c', 4, '-t', 1000)), 0, 'producers');
my $lasted = time() - $began;
my ($out) = $listener->query('SELECT 1');
for my $channel ('backfill', 'Own Channel')
{
	my @found = ($out =~ /Asynchronous notification "$channel" received/g);
	cmp_ok(scalar(@found), '>=', 1, "$channel: there are notifications");
	cmp_ok(scalar(@found), '<=', $lasted / 0.2 + 2, "$channel: at most one in 200 ms");
	note sprintf '%s: %d notifications in %.1f s', $channel, scalar(@found), $lasted;
}
$listener->quit;

# --- Limits: executors and consumers share a queue of three. Every job is counted while it runs
# or is leased; consumers are killed meanwhile.

empty();
$node->safe_psql(
	'postgres', q{
	CREATE TABLE ran (id bigint, began timestamptz, ended timestamptz);
	CREATE FUNCTION inside(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE began timestamptz := clock_timestamp();
	BEGIN
		PERFORM pg_sleep(0.002);
		INSERT INTO ran SELECT (backfill.current_job()).id, began, clock_timestamp();
	END $$;
	CREATE PROCEDURE consume(w text) LANGUAGE plpgsql AS $$
	DECLARE
		job record;
		began timestamptz;
		ended timestamptz;
	BEGIN
		FOR i IN 1 .. 300 LOOP
			SELECT * INTO job FROM backfill.claim_jobs(w, 1, '{shared}', '{three}', '10 s');
			began := clock_timestamp();
			COMMIT;
			IF job.id IS NOT NULL THEN
				PERFORM pg_sleep(0.002);
				ended := clock_timestamp();
				INSERT INTO ran SELECT c, began, ended FROM backfill.complete_jobs(ARRAY[job.id], job.claim_token) c;
			END IF;
			COMMIT;
		END LOOP;
	END $$;
	SELECT backfill.register_task('inside', 'inside(jsonb)', queue_name => 'three'), backfill.register_task('shared', queue_name => 'three'),
	       backfill.set_queue('three', 3);
	SELECT count(backfill.enqueue(CASE WHEN n % 2 = 0 THEN 'inside' ELSE 'shared' END)) FROM generate_series(1, 600) n;
});
my @consumers = map { start_psql($node, 'postgres', "CALL consume('c$_')") } (1 .. 3);
is((finish_psql($_))[2], '', 'a consumer ends well') for @consumers;
try_until(
	'the rest is consumed',
	sub {
		sql(q{CALL consume('rest')});
		my $left = sql(q{SELECT count(*) FROM backfill.job WHERE task_identifier = 'shared'});
		return ($left == 0, "$left jobs");
	});
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'all jobs of the consumers end');
is(sql('SELECT count(*), count(DISTINCT id) FROM ran'), '600|600', 'each once');
is(sql(q{SELECT max(n) FROM (SELECT sum(change) OVER (ORDER BY at, change) AS n
	FROM ran, LATERAL (VALUES (began, 1), (ended, -1)) event (at, change)) e}), 3, 'three at once, never more');

# --- The dispatcher dies, and leases run out all the same.
sql(q{SELECT backfill.enqueue('ext')});
sql(q{SELECT id FROM backfill.claim_jobs('w', lease => '500 ms')});
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'backfill dispatcher'});
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM backfill.jobs WHERE state = 'ready' AND worker IS NULL}, 'a lease runs out after the dispatcher died');

# --- Not preloaded: no workers, no NOTIFY; claims end old leases, and waiting polls.
empty();
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
sql(q{SELECT backfill.enqueue('ext', '1'), backfill.enqueue('ext', '2')});
is(sql(q{SELECT payload FROM backfill.claim_jobs('w', lease => '1 ms')}), 1, 'not preloaded: a job is claimed');
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM backfill.jobs WHERE lease_expires_at < clock_timestamp()}, 'the lease is over');
is(sql(q{SELECT string_agg(payload::text || attempt, ' ') FROM backfill.claim_jobs('w2', max_jobs => 5)}), '12 21', 'not preloaded: the next claim has the job whose lease ran out');
is(sql(q{CALL backfill.wait_for_jobs('10 ms')}), 'f', 'waiting ends');
$waiting = start_psql($node, 'postgres', q{CALL backfill.wait_for_jobs('1 minute')});
sql(q{SELECT backfill.enqueue('ext', '3')});
is((finish_psql($waiting))[1], 't', 'not preloaded: waiting ends or finds a job');
is(sql(q{SELECT count(*) FROM backfill.job j, backfill.complete_jobs(ARRAY[j.id], j.claim_token) WHERE j.claim_token IS NOT NULL}), 2, 'completed');

$node->stop;
check_log($node);
done_testing();

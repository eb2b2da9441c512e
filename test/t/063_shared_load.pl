# Eight consumers in four languages and four executors share a load, while every second one of
# them is killed with kill -9, a consumer and an executor in turn (and with an executor the whole
# server restarts). Now and then a consumer is stopped for longer than its lease, and goes on. SQL
# jobs take effect exactly once; external jobs are begun at least once and completed exactly
# once, by the consumer that claimed them last; nothing is lost. Nothing goes on by polling: poll_interval
# and the consumers' fallback are one hour.
#
# SHARED_LOAD_SECONDS (20) and SHARED_LOAD_JOBS (5000) change the size.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use Consumers;
use List::Util qw(max min sum0);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $seconds = $ENV{SHARED_LOAD_SECONDS} // 20;
my $jobs = $ENV{SHARED_LOAD_JOBS} // 5000;

my $node = preloaded('shared', conf => "backfill.poll_interval = '1h'\nbackfill.max_executors = 4\nrestart_after_crash = on\nmax_connections = 100\n");
create_extension($node);
sub sql { return $node->safe_psql('postgres', $_[0]); }
# The same while the server may be away: undef then.
sub try_sql
{
	# Not by its input: psql may have died before it reads that.
	my $ok = IPC::Run::run([ 'psql', '-XqAt', '-d', $node->connstr('postgres'), '-c', $_[0] ], '<', \undef, '>', \my $out, '2>', \my $err);
	chomp $out;
	return $ok ? $out : undef;
}
build_consumers() or BAIL_OUT('see test/lib/setup.sh test');
create_examples($node);

# A second completion must not be an error that a consumer swallows, but a second row.
sql(
	q{
	ALTER TABLE examples.result DROP CONSTRAINT result_pkey;
	CREATE TABLE intended (token bigint, task text, job_id bigint);
	CREATE TABLE effect (token bigint);
	CREATE TABLE held (yes boolean);
	INSERT INTO held VALUES (true);
	CREATE FUNCTION inside(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effect VALUES ((payload->>'token')::bigint);
		PERFORM pg_sleep((payload->>'ms')::float8 / 1000);
	END $$;
	CREATE FUNCTION hold(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		WHILE (SELECT yes FROM held) LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
	END $$;
	SELECT backfill.set_retry_policy('quick', 1000, '1 ms', '20 ms', 2, 0.5);
	SELECT backfill.register_task(t, (t || '(jsonb)')::regprocedure, max_attempts => 1000, retry_policy => 'quick') FROM unnest('{inside,hold}'::text[]) t;
	SELECT backfill.register_task(t, max_attempts => 1000, retry_policy => 'quick') FROM unnest('{count_words,shout}'::text[]) t;
	SELECT backfill.set_queue('bulk', 1000), backfill.set_queue('three', 3), backfill.set_queue('one', 1);

	-- Jobs with these tokens, of every kind, that take these times on average; whatever commits is intended.
	CREATE FUNCTION produce(first bigint, last bigint, inside_ms numeric, outside_ms numeric, long_every int) RETURNS void LANGUAGE sql AS $$
		INSERT INTO intended
		SELECT n, task, backfill.enqueue(task, jsonb_build_object('token', n, 'text', 'a b c', 'ms', n % 20 / 9.5 * inside_ms, 'seconds', CASE WHEN n % long_every = 1 THEN 2.5 ELSE n % 5 / 2.0 * outside_ms / 1000 END),
			queue_name => CASE WHEN n % 10 = 0 THEN 'three' WHEN n % 51 = 0 THEN 'one' ELSE 'bulk' END)
		  FROM (SELECT n, (CASE WHEN n % 2 = 0 THEN 'inside' WHEN n % 4 = 1 THEN 'count_words' ELSE 'shout' END) AS task
		          FROM generate_series(first, last) n) t
	$$});

# --- How soon jobs of the dead are free again, while nothing else happens.

my @recovery;
my $id = sql(q{SELECT backfill.enqueue('hold')});
for my $round (1 .. 5)
{
	wait_until($node, 'postgres', qq{SELECT count(*) = 1 FROM backfill.workers WHERE job_id = $id}, 'an executor runs a job');
	my $pid = sql("SELECT pid FROM backfill.workers WHERE job_id = $id");
	my $position = log_position($node);
	kill('KILL', $pid) or die "executor $pid: $!";
	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $position);
	# As the server's own clock has it.
	wait_until($node, 'postgres', "SELECT count(*) = 1 FROM backfill.workers WHERE job_id = $id", 'the job runs again');
	push @recovery, sql("SELECT extract(epoch FROM w.state_since - l.backend_start) FROM backfill.workers w, pg_stat_activity l WHERE w.job_id = $id AND l.backend_type = 'backfill launcher'");
}
# The launcher's own round is once a minute; nothing else is timed.
cmp_ok(max(@recovery), '<', 30, 'the job of a dead executor runs again without any timeout');
note 'after the launcher had started, it ran again within ' . join(', ', map { sprintf '%.0f', 1000 * $_ } @recovery) . ' ms';
sql('UPDATE held SET yes = false');
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'the job that runs again ends');

@recovery = ();
for my $language (qw(bash cpp node python))
{
	my $consumer = start_consumer($node, $language, LEASE => 60, FALLBACK => 3600);
	$id = sql(q{SELECT backfill.enqueue('count_words', '{"text": "a", "seconds": 30}')});
	wait_for_consumer_log($consumer, qr/job $id: begins/, "$language: a job is begun");
	kill_consumer($consumer);
	# Its lease ends when we are there to see that.
	my $expires = sql(qq{BEGIN; SELECT count(*) FROM backfill.job, backfill.heartbeat(claim_token, '1 s') WHERE id = $id \\gset
		SELECT extract(epoch FROM lease_expires_at) FROM backfill.job WHERE id = $id; COMMIT});
	wait_until($node, 'postgres', "SELECT state FROM backfill.jobs WHERE id = $id", "$language: it is killed, and the job ready", 'ready');
	push @recovery, time() - $expires;
	sql("SELECT backfill.cancel_job($id)");
}
cmp_ok(min(@recovery), '>=', 0, 'the jobs of dead consumers are not free before their leases are over');
note 'seen after the end of the lease: ' . join(', ', map { sprintf '%.0f', 1000 * $_ } @recovery) . ' ms';

# --- The load.

my (@all, @consumers, @unexpected, %killed);
sub supervise
{
	for my $n (0 .. 7)
	{
		my $consumer = $consumers[$n];
		next if $consumer && !has_ended($consumer);
		push @unexpected, $consumer if $consumer && !$consumer->{killed};
		$consumers[$n] = start_consumer($node, (qw(bash cpp node python))[ $n % 4 ], LEASE => 3, CONCURRENCY => 4, FALLBACK => 3600);
		push @all, $consumers[$n];
	}
	return;
}

# Jobs take long enough to keep four executors and eight consumers with four jobs each busy. Some
# take 2.5 s: when a consumer that was stopped goes on, another one is in the middle of them.
my $lengths = join ', ', (map { sprintf '%.1f', 1000 * $_ * $seconds / ($jobs / 2) } 0.8 * 4, 0.3 * 32), 2 * max(1, int($jobs / (10 * $seconds)));
my $produced = 0;
# Enqueue up to a token. A commit whose answer is lost may have happened.
sub produce_until
{
	my ($target) = @_;
	my $first = try_sql('SELECT coalesce(max(token), 0) + 1 FROM intended') // return;
	my $last = min($target, $first + 199);
	$produced = $last if $last < $first || defined try_sql("SELECT produce($first, $last, $lengths)");
	return;
}
# Kill an executor that is running a job, or a consumer; false if there is none just now. If all jobs are
# done before we look, there will be one that lasts until the kill.
my $holding = 0;
sub kill_executor
{
	my $pid = try_sql(q{SELECT pid FROM backfill.workers WHERE kind = 'executor' AND job_id IS NOT NULL ORDER BY random() LIMIT 1});
	return kill('KILL', $pid) if $pid;
	$holding = 1 if defined $pid && !$holding && defined try_sql(q{UPDATE held SET yes = true; SELECT backfill.enqueue('hold', priority => -20)});
	return 0;
}
sub hold_no_more
{
	$holding = 0 if $holding && defined try_sql('UPDATE held SET yes = false');
	return;
}
sub kill_any_consumer
{
	my $consumer = $consumers[ rand @consumers ];
	$consumer->{killed} = 1;
	kill_consumer($consumer);
	return 1;
}

# Stop a consumer, as a machine does that is suspended or swaps; it goes on after more than a lease.
my ($stopped, $stopped_until);
my $stops = 0;
sub stop_any_consumer
{
	return 0 if $stopped;
	$stopped = $consumers[ rand @consumers ];
	$stopped_until = time() + 4;
	kill('STOP', $stopped->{pid});
	return ++$stops;
}
sub let_go_on
{
	my ($at_once) = @_;
	return if !$stopped || (!$at_once && time() < $stopped_until);
	kill('CONT', $stopped->{pid}) unless has_ended($stopped);
	undef $stopped;
	return;
}

# One kill a tick, of a consumer and an executor in turn. A tick lasts for a second, and for longer if the
# machine does not get on; it brings its share of the jobs.
my $began = time();
my $most_executors = 0;
my $ends = $began;
for my $tick (1 .. $seconds)
{
	my $killed = 0;
	my $deadline = time() + $PostgreSQL::Test::Utils::timeout_default;
	$ends = max($ends + 1, time());
	my $target = int($jobs * $tick / $seconds);
	supervise();
	stop_any_consumer() if $tick % 5 == 1;
	while (!$killed || time() < $ends)
	{
		die "tick $tick: no process to kill" if time() > $deadline;
		supervise();
		produce_until($target) if $produced < $target;
		$most_executors = max($most_executors, try_sql(q{SELECT count(*) FROM backfill.workers WHERE kind = 'executor'}) // 0);
		let_go_on();
		hold_no_more() if $killed;
		next if $killed;
		$killed = $tick % 2 ? kill_any_consumer() : kill_executor();
		$killed{ $tick % 2 ? 'consumer' : 'executor' }++ if $killed;
	}
}
note sprintf '%.0f s: %d consumers and %d executors killed, %d times a consumer was stopped for longer than a lease', time() - $began, $killed{consumer} // 0, $killed{executor} // 0, $stops;
let_go_on('at once');
try_until(
	'all jobs have ended',
	sub {
		supervise();
		hold_no_more();
		produce_until($jobs) if $produced < $jobs;
		my $left = $produced < $jobs ? 'not all are enqueued' : sql('SELECT id, task_identifier, state, queue_name, attempts, worker, lease_expires_at FROM backfill.jobs LIMIT 20');
		return ($left eq '', $left);
	});
note sprintf 'all done after %.0f s', time() - $began;

is(join(' ', map { $_->{name} . ': ' . $_->{status} } @unexpected), '', 'no consumer ended by itself');
for my $consumer (@unexpected) { diag consumer_log($consumer); }
is(join(' ', map { end_consumer($_) } @consumers), '0 0 0 0 0 0 0 0', 'the consumers that live end well');
is($most_executors, 4, 'there were four executors');
cmp_ok($killed{$_} // 0, '>=', $seconds / 4, "${_}s were killed") for qw(consumer executor);

# --- The books.

is(sql('SELECT count(*) FROM intended'), $jobs, 'as many jobs were enqueued as should be');
is(sql('SELECT total_jobs FROM backfill.dlq_stats()'), 0, 'no job is dead');
is(sql(q{SELECT count(*) FROM (SELECT token FROM intended WHERE task = 'inside' EXCEPT ALL SELECT token FROM effect) l}), 0, 'SQL jobs: none is lost');
is(sql(q{SELECT count(*) FROM (SELECT token FROM effect EXCEPT ALL SELECT token FROM intended WHERE task = 'inside') l}), 0, 'SQL jobs: none took effect twice');
is(sql(q{SELECT count(*) FROM (SELECT job_id FROM intended WHERE task <> 'inside' EXCEPT ALL SELECT job_id FROM examples.result) l}), 0, 'external jobs: each was completed');
is(sql(q{SELECT count(*) FROM (SELECT job_id FROM examples.result EXCEPT ALL SELECT job_id FROM intended WHERE task <> 'inside') l}), 0, 'external jobs: none was completed twice');
is(sql(q{SELECT count(*) FROM examples.result r JOIN intended i USING (job_id) WHERE r.result <> CASE i.task WHEN 'shout' THEN 'A B C' ELSE '3' END}), 0, 'external jobs: with the right result');

# What the consumers say: they may have died before they could.
my (%begun, %completed, %last_attempt, %last_worker);
for my $consumer (@all)
{
	my $log = consumer_log($consumer);
	while ($log =~ /job (\d+): begins \w+, attempt (\d+)/g)
	{
		$begun{$1}++;
		($last_attempt{$1}, $last_worker{$1}) = ($2, $consumer->{name}) if $2 > ($last_attempt{$1} // 0);
	}
	$completed{$_}++ for $log =~ /job (\d+): completed/g;
}
my @external = split /\n/, sql(q{SELECT job_id FROM intended WHERE task <> 'inside'});
is(scalar(grep { !$begun{$_} } @external), 0, 'external jobs: each was begun');
my %worker = map { split /\|/ } split /\n/, sql('SELECT job_id, worker FROM examples.result');
is(scalar(grep { ($worker{$_} // '') ne ($last_worker{$_} // '') } @external), 0, 'external jobs: only the last claim could complete it');
is(scalar(grep { $_ > 1 } values %completed), 0, 'external jobs: no consumer was told of a second completion');
is(sql('SELECT count(*) FROM unnest(' . ("'{" . join(',', keys %completed) . "}'::bigint[]") . ') c WHERE NOT EXISTS (SELECT FROM examples.result WHERE job_id = c)'), 0, 'external jobs: what they were told is so');
for my $language (qw(bash cpp node python))
{
	cmp_ok(sql("SELECT count(*) FROM examples.result WHERE worker LIKE '$language-%'"), '>', 0, "$language took part");
}
note sprintf '%d SQL jobs; %d external jobs, %d begun more than once, %d times in all', sql('SELECT count(*) FROM effect'), scalar(@external), scalar(grep { ($begun{$_} // 0) > 1 } @external), sum0(map { $begun{$_} // 0 } @external);
note 'by language: ' . sql(q{SELECT string_agg(l || ' ' || n, ', ') FROM (SELECT split_part(worker, '-', 1) AS l, count(*) AS n FROM examples.result GROUP BY 1 ORDER BY 1) x});

$node->stop;
check_log($node, crashes => 1);
is(scalar(log_lines($node, qr/was terminated by signal (?!9:)/)), 0, 'no process crashed by itself');
done_testing();

# What operators see of a failure, in the log and in the dead letter queue; that no error, however
# strange, ends a worker; and that errors cost no memory.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('errors', conf => "backfill.poll_interval = '1h'\nbackfill.max_executors = 1\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE ran (name text);
	CREATE SEQUENCE tries;
	CREATE FUNCTION inner_function() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		RAISE EXCEPTION 'the printer is on fire' USING ERRCODE = 'P0001', DETAIL = 'It is hot.', HINT = 'Call the fire brigade.';
	END $$;
	CREATE FUNCTION print(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO ran VALUES ('print');
		PERFORM inner_function();
	END $$;
	CREATE FUNCTION run(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO ran VALUES (payload->>'name');
		EXECUTE payload->>'run';
	END $$;
	CREATE FUNCTION recurse(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN recurse(n + 1); END $$;
	SELECT backfill.set_retry_policy('twice', 2, '1 ms', '1 ms', 1, 0), backfill.set_retry_policy('once', 1);
	SELECT backfill.register_task('print', 'print(jsonb)', queue_name => 'office', retry_policy => 'twice');
	SELECT backfill.register_task('run', 'run(jsonb)', retry_policy => 'once');
	SELECT backfill.register_task('slow', 'run(jsonb)', retry_policy => 'once', timeout => '100 ms');
});

# --- A retry, then a dead letter.

my $position = log_position($node);
my $job = $node->safe_psql('postgres', q{SELECT backfill.enqueue('print', '{"page": "classified"}')});
wait_until($node, 'postgres', 'SELECT count(*) = 1 FROM backfill.list_dlq_jobs()', 'the second failure is the last');
is($node->safe_psql('postgres', 'SELECT count(*) FROM ran'), 0, 'the effects of both attempts are gone');
my $log = join("\n", map { s/^.*? (\S+ \w+: )/$1/r } log_lines($node, qr/ backfill executor /, $position));
is( $log,
	qq{P0001 LOG:  job $job failed and will be retried: the printer is on fire
P0001 DETAIL:  It is hot.
P0001 HINT:  Call the fire brigade.
P0001 CONTEXT:  job $job, task "print", queue "office", attempt 1 of 2
P0001 WARNING:  job $job failed for good and is in the dead letter queue: the printer is on fire
P0001 DETAIL:  It is hot.
P0001 HINT:  Call the fire brigade.
P0001 CONTEXT:  job $job, task "print", queue "office", attempt 2 of 2},
	'the log tells of both, with error, job and attempt');
is(scalar(log_lines($node, qr/classified/, $position)), 0, 'the log tells nothing of the payload');
is( $node->safe_psql(
		'postgres', q{SELECT failure_reason, failure_count, last_error->>'sqlstate', last_error->>'message',
		last_error->>'detail', last_error->>'hint', replace(last_error->>'context', E'\n', ' / ') FROM backfill.list_dlq_jobs()}),
	'all 2 attempts failed: the printer is on fire|2|P0001|the printer is on fire|It is hot.|Call the fire brigade.|'
	  . 'PL/pgSQL function inner_function() line 3 at RAISE / SQL statement "SELECT inner_function()" / '
	  . "PL/pgSQL function print(jsonb) line 4 at PERFORM / job $job, task \"print\", queue \"office\", attempt 2 of 2",
	'the dead letter has all of it');

# --- Strange errors: the executor is the same afterwards.

my ($executor) = worker_pids($node, 'executor');
my %strange = (
	'01000' => q{DO $x$ BEGIN RAISE EXCEPTION '%', 'a warning, %s %d %n' USING ERRCODE = '01000'; END $x$},
	'22012' => q{SELECT 1 / 0},
	'22P02' => q{SELECT 'x'::int},
	'42601' => q{SELEKT 1},
	'42P01' => q{SELECT * FROM "no such ""table"" ☃"},
	'54000' => q{SELECT repeat('x', 2000000000)},
	'54001' => q{SELECT recurse(1)},
	'57014' => q{SET LOCAL statement_timeout = 1; SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(60)},
	'P0001' => q{DO $x$ BEGIN RAISE EXCEPTION '%', repeat('ä', 200000) USING DETAIL = repeat('ö', 200000); END $x$},
	'P0004' => q{DO $x$ BEGIN ASSERT false; END $x$},
	'XYZ99' => q{DO $x$ BEGIN RAISE EXCEPTION USING ERRCODE = 'XYZ99'; END $x$},
	'0A000' => q{COMMIT},
	'53100' => q{DO $x$ BEGIN RAISE disk_full; END $x$});
$node->safe_psql('postgres', 'TRUNCATE backfill.dead_letter');
for my $state (sort keys %strange)
{
	$node->safe_psql('postgres', qq{SELECT backfill.enqueue('run', jsonb_build_object('name', '$state', 'run', \$run\$$strange{$state}\$run\$))});
}
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'jobs with strange errors end');
is($node->safe_psql('postgres', q{SELECT string_agg(payload->>'name', ' ' ORDER BY payload->>'name') FROM backfill.list_dlq_jobs()
		WHERE last_error->>'sqlstate' = payload->>'name'}),
	join(' ', sort keys %strange), 'each is a dead letter with its SQLSTATE');
cmp_ok($node->safe_psql('postgres', 'SELECT max(length(last_error::text)) FROM backfill.list_dlq_jobs()'),
	'<', 40_000, 'what is stored of an endless message has an end');
my ($longest) = sort { $b <=> $a } map { length } log_lines($node, qr/./, $position);
cmp_ok($longest, '<', 40_000, 'so has what is logged of it');
is($node->safe_psql('postgres', q{SELECT last_error->>'message' FROM backfill.list_dlq_jobs() WHERE payload->>'name' = '01000'}),
	'a warning, %s %d %n', 'a message is no format');

$node->safe_psql('postgres', q{SELECT backfill.enqueue('slow', '{"name": "slow", "run": "SELECT pg_sleep(3600)"}')});
wait_until($node, 'postgres', q{SELECT last_error->>'message' FROM backfill.list_dlq_jobs('slow')},
	'a job that takes too long', 'job ran longer than the timeout of its task, 100 ms');
$node->safe_psql('postgres', q{SELECT backfill.enqueue('run', '{"name": "after", "run": "SELECT pg_sleep(0.2)"}')});
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM ran WHERE name = 'after'}, 'the job behind one that has timed out may take its time');
is(join(',', worker_pids($node, 'executor')), $executor, 'all failures happen in the same executor');

# --- When everything fails, the log stays readable, and memory flat.

my $storm = q{SELECT count(*) FROM backfill.enqueue_many('run', array_fill('{"run": "SELECT 1 / 0"}'::jsonb, ARRAY[5000]))};
$node->safe_psql('postgres', $storm);
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', '5,000 jobs fail');
my $memory = resident_kb($executor);
$position = log_position($node);
$node->safe_psql('postgres', "TRUNCATE backfill.dead_letter; $storm");
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', '5,000 more jobs fail');
is($node->safe_psql('postgres', 'SELECT count(*) FROM backfill.dead_letter'), 5000, 'all jobs that failed are dead letters');
cmp_ok(resident_kb($executor) - $memory, '<', 1000, "the executor's memory did not grow");
my $logged = log_lines($node, qr/job \d+ failed for good/, $position);
cmp_ok($logged, '<', 3000, 'the log does not have them all') or diag "$logged lines";
# The first failure of another second says how many were kept back.
try_until(
	'but says so',
	sub {
		$node->safe_psql('postgres', q{SELECT backfill.enqueue('run', '{"run": "SELECT 1 / 0"}')});
		my @told = log_lines($node, qr/LOG:  \d+ more job failures were not logged/, $position);
		return (@told > 0, 'no such line in the log');
	});

# In a session, as single statements: every way out of a function is an error here.
my ($code, $out, $err) = finish_psql(
	start_psql(
		$node, 'postgres', q{
	\set VERBOSITY terse
	SET log_min_messages = fatal;
	CREATE TEMP TABLE calls AS
		SELECT format(call, i) AS call FROM generate_series(1, 2500) i,
			unnest(ARRAY['SELECT backfill.enqueue(''%s'', max_attempts => 0)', 'SELECT backfill.enqueue_many(''t'', NULL, ''%s'')',
				'SELECT backfill.register_task(''%s'', ''no_such(jsonb)'')', 'SELECT backfill.priority(''%s'')']) call;
	PREPARE memory AS SELECT substring(pg_read_file('/proc/self/status') FROM 'RssAnon:\s+(\d+)')::int;
	EXECUTE memory;
	SELECT call FROM calls LIMIT 1000 \gexec
	EXECUTE memory;
	SELECT call FROM calls \gexec
	EXECUTE memory;
	SELECT count(*) FROM calls;
}, '-v', 'ON_ERROR_STOP=0'));
my (undef, $before, $after, $calls) = split /\n/, $out;
is($calls, 10_000, '10,000 calls after the first 1,000');
is(scalar(() = $err =~ /ERROR: /g), 11_000, 'all 11,000 calls fail');
cmp_ok($after - $before, '<', 1000, "10,000 failed calls did not make the session's memory grow");

# --- One call that fails thousands of jobs says so of some of them, and how many more there were.

my $jobs = 3000;
$node->safe_psql('postgres', q{SELECT backfill.set_queue('many'), backfill.register_task('external', max_attempts => 1, queue_name => 'many')});

# A number of jobs, leased by a consumer that is gone.
sub leave_jobs
{
	my ($count) = @_;
	$node->safe_psql('postgres', qq{SELECT count(*) FROM (SELECT backfill.enqueue('external') FROM generate_series(1, $count)) enqueued});
	return $node->safe_psql('postgres', "SELECT count(*) FROM backfill.claim_jobs('gone', max_jobs => $count)");
}

is(leave_jobs($jobs), $jobs, 'a consumer has thousands of jobs');
$position = log_position($node);
my $operator = $node->background_psql('postgres', on_error_stop => 0);
$operator->{stderr} = '';
my $took = $operator->query(q{SELECT clock_timestamp() AS began \gset
	SELECT backfill.force_unlock_workers('{gone}');
	SELECT ceil(extract(epoch FROM clock_timestamp() - :'began'));});
my $told = () = $operator->{stderr} =~ /WARNING:  job \d+ failed for good/g;
($took) = $took =~ /(\d+)$/;
cmp_ok($told, '>', 0, 'the session that fails them hears of some');
cmp_ok($told, '<=', 1000 * ($took + 1), 'of a thousand in a second at most');
ok($told < $jobs || $took > 2, 'and so not of all') or diag "$told in $took s";
wait_until($node, 'postgres', q{SELECT clock_timestamp() > '} . $node->safe_psql('postgres', 'SELECT clock_timestamp()') . q{'::timestamptz + interval '1 s'}, 'another second begins');
leave_jobs(1);
$operator->query(q{SELECT backfill.force_unlock_workers('{gone}')});
my $kept_back = 0;
$kept_back += $_ for map { /LOG:  (\d+) more job failures? w/ } log_lines($node, qr/more job failure/, $position);
is($told + $kept_back, $jobs, 'the log says how many it has kept back');
is(scalar(log_lines($node, qr/WARNING:  job \d+ failed for good/, $position)), $told + 1, 'and has what the session has heard');
$operator->quit;

$node->stop;
check_log($node);
done_testing();

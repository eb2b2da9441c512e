# A job that waits for a lock does not keep those that are done before it in the same batch: they are
# committed, and it waits alone. That costs it no attempt, its handler sees nothing of it, and
# the effects of all jobs are there once. No client is the victim of a deadlock with jobs that never
# lock two rows.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('batch_lock_waits',
	conf => "backfill.max_executors = 1\nbackfill.executor_idle_timeout = '1h'\nbackfill.batch_time = '1s'\ndeadlock_timeout = '10ms'\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE account (id text PRIMARY KEY, n int NOT NULL DEFAULT 0);
	INSERT INTO account VALUES ('A'), ('B'), ('C');
	CREATE TABLE seen (id text, attempt int, lock_timeout text, caught text, xid xid8 DEFAULT pg_current_xact_id());
	CREATE FUNCTION bump(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF payload ? 'catch' THEN
			BEGIN
				UPDATE account SET n = n + 1 WHERE id = payload->>'id';
			EXCEPTION WHEN query_canceled THEN
				INSERT INTO seen VALUES (payload->>'id', 0, '', 'a cancel');
			END;
		ELSIF payload ? 'lock_timeout' THEN
			PERFORM set_config('lock_timeout', payload->>'lock_timeout', true);
			BEGIN
				UPDATE account SET n = n + 1 WHERE id = payload->>'id';
			EXCEPTION WHEN lock_not_available THEN
				INSERT INTO seen VALUES (payload->>'id', (backfill.current_job()).attempt, current_setting('lock_timeout'), 'its own timeout');
				RETURN;
			END;
		ELSIF payload ? 'advisory' THEN
			PERFORM pg_advisory_xact_lock(1);
			UPDATE account SET n = n + 1 WHERE id = payload->>'id';
		ELSE
			UPDATE account SET n = n + 1 WHERE id = payload->>'id';
		END IF;
		INSERT INTO seen VALUES (payload->>'id', (backfill.current_job()).attempt, current_setting('lock_timeout'));
	END $$;
	SELECT backfill.register_task('bump', 'bump(jsonb)', max_attempts => 1);
});

# The task counts as fast, and so jobs share a batch.
sub make_fast
{
	$node->safe_psql('postgres', q{SELECT count(*) FROM backfill.enqueue_many('bump', array_fill('{"id": "C"}'::jsonb, ARRAY[200]))});
	wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'jobs that do not wait');
	$node->safe_psql('postgres', 'TRUNCATE seen; UPDATE account SET n = 0');
	return;
}

# Three jobs for A, then one for B, whose row a client has locked.
sub behind_a_lock
{
	my ($lock, $payload, $name, $client) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	make_fast();
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_safe("BEGIN; $lock");
	$node->safe_psql('postgres',
		"SELECT count(*) FROM backfill.enqueue_many('bump', ARRAY['{\"id\": \"A\"}', '{\"id\": \"A\"}', '{\"id\": \"A\"}', '$payload']::jsonb[])");
	wait_until($node, 'postgres', q{SELECT n = 3 FROM account WHERE id = 'A'}, "$name: those that are done are committed");
	$client->($session) if $client;
	$session->query_safe('COMMIT');
	$session->quit;
	wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', "$name: in the end the other one runs, too");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM backfill.dlq'), 0, "$name: no job has failed");
	is($node->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE id = 'A'), count(*) FILTER (WHERE id = 'B'), max(attempt), max(caught) FROM seen}),
		'3|1|1|', "$name: each has run once, in its first attempt, and has noticed nothing");
	return;
}

my $lock_b = q{UPDATE account SET n = n + 100 WHERE id = 'B'};
behind_a_lock(
	$lock_b, '{"id": "B"}', 'a row', sub {
		my ($session) = @_;
		# It blocks no session, and so it is no deadlock.
		like($session->query(q{UPDATE account SET n = n + 100 WHERE id = 'A' RETURNING n}), qr/^103$/m, 'a row: the client gets the rows of the others');
	});
is($node->safe_psql('postgres', q{SELECT string_agg(id || n, ' ' ORDER BY id) FROM account WHERE id < 'C'}), 'A103 B101', 'a row: all updates are there');
behind_a_lock('SELECT pg_advisory_lock(1); SELECT pg_advisory_xact_lock(1); SELECT pg_advisory_unlock(1)', '{"id": "B", "advisory": true}', 'an advisory lock');
behind_a_lock($lock_b, '{"id": "B", "catch": true}', 'a handler that catches cancels');

# What a handler does with lock_timeout is its own business.
make_fast();
my $session = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe("BEGIN; $lock_b");
$node->safe_psql('postgres',
	q{SELECT count(*) FROM backfill.enqueue_many('bump', ARRAY['{"id": "A"}', '{"id": "B", "lock_timeout": "20ms"}']::jsonb[])});
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'a handler with a lock_timeout of its own ends');
is($node->safe_psql('postgres', q{SELECT id, attempt, lock_timeout, caught FROM seen ORDER BY id}), "A|1|0|\nB|1|20ms|its own timeout", 'a handler with a lock_timeout of its own is cancelled by that');
$session->query_safe('COMMIT');
$session->quit;

# The same in batches of a session.
$node->safe_psql('postgres', q{ALTER SYSTEM SET backfill.max_executors = 0});
$node->reload;
wait_for_workers($node, 'executor', 'postgres', 0, 'no executor');
$node->safe_psql('postgres', 'TRUNCATE seen; UPDATE account SET n = 0');
my $client = $node->background_psql('postgres', on_error_stop => 1);
$client->query_safe("BEGIN; $lock_b");
$node->safe_psql('postgres',
	q{SELECT count(*) FROM backfill.enqueue_many('bump', array_fill('{"id": "A"}'::jsonb, ARRAY[20]) || '{"id": "B"}'::jsonb)});
my $worker = start_psql($node, 'postgres', "CALL backfill.process_available_jobs();\n");
$worker->{run}->pump;
wait_until($node, 'postgres', q{SELECT n = 20 FROM account WHERE id = 'A'}, 'in a session, too, the jobs that are done are committed');
$client->query_safe('COMMIT');
$client->quit;
my ($code, $out) = finish_psql($worker);
is("$code $out", '0 21', 'the job that waited in the session runs when it can');
is($node->safe_psql('postgres', q{SELECT count(*), max(attempt) FROM seen}), '21|1', 'each once');

# Executors that fill one table wait for each other, again and again, to make it longer: for moments
# only, and that is not taken for a wait for a client. (Nor is it counted what undo_faults has run again, should it be set
# for all tests.)
$node->safe_psql(
	'postgres', q{
	ALTER SYSTEM SET backfill.batch_time = '5ms';
	ALTER SYSTEM SET backfill.max_executors = 4;
	ALTER SYSTEM SET backfill.undo_faults = 0;
	CREATE SEQUENCE runs;
	CREATE TABLE filled (payload text);
	ALTER TABLE filled ALTER payload SET STORAGE PLAIN;
	CREATE FUNCTION fill(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM nextval('runs');
		INSERT INTO filled SELECT repeat('x', 4000) FROM generate_series(1, 10);
	END $$;
	SELECT backfill.register_task('fill', 'fill(jsonb)', max_attempts => 1);
	SELECT count(*) FROM backfill.enqueue_many('fill', array_fill('{}'::jsonb, ARRAY[3000]));
});
$node->reload;
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'jobs that fill one table end');
is($node->safe_psql('postgres', 'SELECT count(*) FROM filled'), 30000, 'the jobs have filled the table');
is($node->safe_psql('postgres', 'SELECT last_value FROM runs'), 3000, 'each ran once: none was given back because it waited for another one');

$node->stop;
check_log($node);
done_testing();

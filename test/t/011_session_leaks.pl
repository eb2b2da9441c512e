# What one job leaves in the session must be gone before the next one, also in the same
# batch and in the same process.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('leaks', conf => "backfill.max_executors = 1\nbackfill.batch_time = '1s'\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE ROLE worker LOGIN;
	CREATE ROLE helper;
	GRANT helper TO worker;
	CREATE SEQUENCE numbers;
	GRANT USAGE ON SEQUENCE numbers TO worker;
	CREATE TABLE parent (id int PRIMARY KEY);
	CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
	GRANT INSERT, SELECT, REFERENCES ON parent, child TO worker;
	CREATE TABLE seen (id bigint GENERATED ALWAYS AS IDENTITY, what text, pid int DEFAULT pg_backend_pid(),
		xid xid8 DEFAULT pg_current_xact_id());
	GRANT INSERT ON seen TO worker, helper;

	CREATE FUNCTION leave(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		c refcursor := 'left_open';
	BEGIN
		INSERT INTO seen (what) VALUES ('leave ' || (payload->>'what'));
		EXECUTE payload->>'run';
		IF payload->>'what' = 'plpgsql cursor' THEN
			OPEN c FOR SELECT 1;
		END IF;
		IF payload ? 'fail' THEN
			RAISE EXCEPTION 'failed after leaving %', payload->>'what';
		END IF;
	END $$;
	-- Everything that a fresh session does not have, by name; empty if it is clean.
	CREATE FUNCTION look(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		found text[] := '{}';
		n int;
	BEGIN
		IF coalesce(current_setting('my.variable', true), '') <> '' THEN found := array_append(found, 'custom setting'); END IF;
		IF current_setting('work_mem') <> '4MB' THEN found := array_append(found, 'setting'); END IF;
		IF current_setting('enable_seqscan') <> 'on' THEN found := array_append(found, 'local setting'); END IF;
		found := found || ARRAY(SELECT 'setting ' || name FROM pg_settings
			WHERE source = 'session' AND name NOT IN ('my.variable', 'work_mem', 'enable_seqscan') ORDER BY name);
		IF to_regproc('pg_temp.scratch') IS NOT NULL THEN found := array_append(found, 'temporary function'); END IF;
		IF to_regclass('pg_temp.scratch') IS NOT NULL THEN found := array_append(found, 'temporary table'); END IF;
		IF EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objid = 4711 AND objsubid = 1)
			THEN found := array_append(found, 'advisory lock'); END IF;
		IF EXISTS (SELECT FROM pg_prepared_statements) THEN found := array_append(found, 'prepared statement'); END IF;
		IF EXISTS (SELECT FROM pg_listening_channels()) THEN found := array_append(found, 'listen'); END IF;
		SELECT count(*) INTO n FROM pg_cursors WHERE name IN ('held', 'left_open');
		IF n > 0 THEN found := array_append(found, 'cursor'); END IF;
		IF current_user <> 'worker' THEN found := array_append(found, 'role'); END IF;
		BEGIN
			PERFORM currval('numbers');
			found := array_append(found, 'currval');
		EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL;
		END;
		BEGIN
			-- Legal only if the constraint is still deferred.
			INSERT INTO child VALUES (nextval('numbers'), 1000 + lastval());
			INSERT INTO parent VALUES (1000 + lastval());
		EXCEPTION WHEN foreign_key_violation THEN found := array_append(found, 'constraint mode');
		END;
		INSERT INTO seen (what) VALUES (array_to_string(found, ', '));
	END $$;
	CREATE FUNCTION glance(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen (what) VALUES ('') $$;
	SELECT backfill.set_retry_policy('once', 1);
	SELECT backfill.register_task('leave', 'leave(jsonb)', run_as => 'worker', retry_policy => 'once'),
		   backfill.register_task('look', 'look(jsonb)', run_as => 'worker'), backfill.register_task('glance', 'glance(jsonb)', run_as => 'worker');
});

my %left = (
	'custom setting' => q{SET my.variable = 'left'},
	'setting' => q{SET work_mem = '8MB'},
	'local setting' => q{SET LOCAL enable_seqscan = off},
	'search path' => q{SET search_path = pg_temp, public},
	'time zone' => q{SET TIME ZONE 5},
	'read-only session' => q{SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY},
	'timeouts' => q{SET statement_timeout = 1; SET lock_timeout = 1; SET idle_in_transaction_session_timeout = 1},
	'temporary table' => q{CREATE TEMP TABLE scratch (id int)},
	'temporary function' => q{CREATE FUNCTION pg_temp.scratch() RETURNS int LANGUAGE sql AS $x$SELECT 1$x$},
	'advisory lock' => q{SELECT pg_advisory_lock(4711)},
	'prepared statement' => q{PREPARE p AS SELECT 1},
	'listen' => q{LISTEN other},
	'held cursor' => q{DECLARE held CURSOR WITH HOLD FOR SELECT 1},
	'plpgsql cursor' => q{SELECT 1},
	'role' => q{SET ROLE helper},
	'currval' => q{SELECT nextval('numbers')},
	'constraint mode' => q{SET CONSTRAINTS ALL IMMEDIATE});

for my $what (sort keys %left)
{
	for my $fail ('', ', "fail": true')
	{
		my $name = $what . ($fail ? ', left by a job that fails' : '');
		$node->safe_psql('postgres',
			"TRUNCATE seen; SELECT backfill.enqueue_serial('leave', \$q\${\"what\": \"$what\", \"run\": \"$left{$what}\"$fail}\$q\$, 'order'),"
			  . " backfill.enqueue_serial('look', '{}', 'order'), backfill.enqueue_serial('look', '{}', 'order')");
		wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', "$name: the jobs have ended");
		# LISTEN is refused in a background process, so that job fails.
		my $expected = $fail || $what eq 'listen' ? "\n" : "leave $what\n\n";
		is($node->safe_psql('postgres', 'SELECT what FROM seen ORDER BY id'),
			$expected, "$name: the next jobs do not see it");
		is($node->safe_psql('postgres', 'SELECT count(DISTINCT pid) FROM seen'), 1, "$name: in the same process");
	}
}

# Proof that the jobs above could share a batch, and that look() can find what is left: it is
# run here in a session that really has all of that.
# A job that takes 5 ms keeps its task out of batches for a while. So does look() where the machine is
# busy with other things; hence a job that does next to nothing, several tries, and no look() to rely on.
try_until(
	'innocent jobs share a transaction',
	sub {
		$node->safe_psql('postgres', "TRUNCATE seen; SELECT backfill.enqueue_serial('glance', '{}', 'order') FROM generate_series(1, 20)");
		wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', '20 innocent jobs end');
		my $transactions = $node->safe_psql('postgres', 'SELECT count(DISTINCT xid) FROM seen');
		return ($transactions < 20, "$transactions transactions");
	});
is( $node->safe_psql(
		'postgres', q{
	TRUNCATE seen;
	SET ROLE worker;
	SET my.variable = 'left'; SET work_mem = '8MB'; SET enable_seqscan = off;
	SET TIME ZONE 5;
	CREATE FUNCTION pg_temp.scratch() RETURNS int LANGUAGE sql AS 'SELECT 1';
	CREATE TEMP TABLE scratch (id int); GRANT ALL ON scratch TO PUBLIC;
	SELECT FROM pg_advisory_lock(4711);
	PREPARE p AS SELECT 1;
	LISTEN other;
	DECLARE held CURSOR WITH HOLD FOR SELECT 1;
	SELECT FROM nextval('numbers');
	SELECT FROM look('{}');
	RESET ROLE;
	SELECT what FROM seen}),
	'custom setting, setting, local setting, setting TimeZone, temporary function, temporary table, advisory lock, prepared statement, listen, cursor, currval',
	'look() finds what is there');

# A lock that an earlier job of the batch has got for the transaction, and a later one for the session.
$node->safe_psql('postgres', q{
	CREATE FUNCTION lock_once(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT FROM pg_advisory_xact_lock(4712)';
	CREATE FUNCTION lock_again(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT FROM pg_advisory_lock(4712)';
	SELECT backfill.register_task('lock_once', 'lock_once(jsonb)', run_as => 'worker');
	SELECT backfill.register_task('lock_again', 'lock_again(jsonb)', run_as => 'worker');
	SELECT backfill.enqueue_serial(task, '{}', 'order') FROM generate_series(1, 50), unnest(ARRAY['lock_once', 'lock_again']) AS task});
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'the jobs that lock have ended');
wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4712},
	'no batch leaves a lock of the session');

$node->stop;
check_log($node);
done_testing();

# What a handler of an unprivileged role tries in order to reach more than its role may. Each
# attempt must be refused or be without effect, our tables must be as before, and the next
# job of the same executor must run as if nothing had been.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('hostile', conf => "backfill.max_executors = 1\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE ROLE mallory LOGIN;
	CREATE ROLE boss SUPERUSER LOGIN;
	CREATE SCHEMA mallory AUTHORIZATION mallory;
	GRANT CREATE ON SCHEMA public TO mallory;
	CREATE TABLE report (id bigint GENERATED ALWAYS AS IDENTITY, what text, role text, session_role text, path text,
		read_only text, pid int DEFAULT pg_backend_pid());
	GRANT INSERT ON report TO mallory;
	CREATE TABLE dispatcher AS SELECT pid FROM pg_stat_activity WHERE backend_type = 'backfill dispatcher';
	GRANT SELECT ON dispatcher TO mallory;
	CREATE TABLE secret (word text);
	INSERT INTO secret VALUES ('sesame');
	SELECT backfill.set_retry_policy('once', 1);

	-- Runs what the payload says; an error is the job's.
	SET ROLE mallory;
	CREATE FUNCTION mallory.attack(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		statement text;
	BEGIN
		FOR statement IN SELECT jsonb_array_elements_text(payload->'run') LOOP
			EXECUTE statement;
		END LOOP;
	END $$;
	CREATE FUNCTION mallory.tell(payload jsonb) RETURNS void LANGUAGE sql AS $$
		INSERT INTO public.report (what, role, session_role, path, read_only)
		VALUES (payload->>'what', current_user, session_user, current_setting('search_path'),
				current_setting('transaction_read_only')) $$;
	RESET ROLE;
	SELECT backfill.register_task('attack', 'mallory.attack(jsonb)', run_as => 'mallory', retry_policy => 'once'),
		   backfill.register_task('tell', 'mallory.tell(jsonb)', run_as => 'mallory', retry_policy => 'once');
	SELECT backfill.enqueue_serial('tell', '{"what": "before"}', 'order');
});
wait_until($node, 'postgres', 'SELECT count(*) = 1 FROM report', 'an innocent job runs first');
my $pid = $node->safe_psql('postgres', 'SELECT pid FROM report');

# Our tables, their privileges, and what there is in our schema.
# Rows of queues that were only named come with a job and go when their time has come.
my $our_tables = q{
	SELECT md5(string_agg(t::text, ',')) FROM (
		SELECT t::text FROM backfill.task t UNION ALL SELECT p::text FROM backfill.producer p
		UNION ALL SELECT q::text FROM backfill.queue q WHERE NOT q.automatic UNION ALL SELECT r::text FROM backfill.retry_policy r
		UNION ALL SELECT oid || relname || coalesce(relacl::text, '') || relhastriggers FROM pg_class WHERE relnamespace = 'backfill'::regnamespace
		UNION ALL SELECT oid || proname || coalesce(proacl::text, '') || md5(prosrc) FROM pg_proc WHERE pronamespace = 'backfill'::regnamespace
		UNION ALL SELECT rolname || rolsuper || rolcreaterole || coalesce(rolconfig::text, '') FROM pg_roles
		UNION ALL SELECT m::text FROM pg_auth_members m
		ORDER BY 1) t};
my $before = $node->safe_psql('postgres', $our_tables);

# Each attempt: a name, the statements, and the SQLSTATE it must end with ('' where the
# statements themselves are allowed and must just achieve nothing).
my @attempts = (
	[ 'SET SESSION AUTHORIZATION', '42501', q{SET SESSION AUTHORIZATION boss} ],
	[ 'RESET SESSION AUTHORIZATION and look', '42501', q{RESET SESSION AUTHORIZATION}, q{SELECT * FROM public.secret} ],
	[ 'SET ROLE', '42501', q{SET ROLE boss} ],
	[ 'set_config of the role', '42501', q{SELECT set_config('role', 'boss', false)} ],
	[ 'RESET ROLE and look', '42501', q{RESET ROLE}, q{SELECT * FROM public.secret} ],
	[ 'reading jobs', '42501', q{SELECT * FROM backfill.job} ],
	[ 'writing jobs', '42501', q{DELETE FROM backfill.job} ],
	[ 'writing dead letters', '42501', q{DELETE FROM backfill.dead_letter} ],
	[ 'changing tasks', '42501', q{UPDATE backfill.task SET run_as = 'boss'} ],
	[ 'enqueueing without the right', '42501', q{SELECT backfill.enqueue('attack')} ],
	[ 'registering a task', '42501', q{SELECT backfill.register_task('mine', 'mallory.tell(jsonb)', run_as => 'boss')} ],
	[ 'internal functions', '42501', q{SELECT backfill._requeue(1, 1, 'tell', '{}', 'bulk', 0, 1, NULL, NULL)} ],
	[ 'replication role', '42501', q{SET session_replication_role = replica} ],
	[ 'set_config of the session user', '42501', q{SELECT set_config('session_authorization', 'boss', false)} ],
	[ 'a role of its own making', '42501', q{CREATE ROLE minion SUPERUSER} ],
	[ 'granting itself our rights', '42501', q{SELECT backfill.grant_admin('mallory')} ],
	[ 'triggers on our tables', '42501',
		q{CREATE TRIGGER t AFTER INSERT ON backfill.dead_letter FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()} ],
	[ 'changing our tables', '42501', q{ALTER TABLE backfill.job OWNER TO mallory} ],
	[ 'a function in our schema', '42501', q{CREATE FUNCTION backfill.enqueue(text) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'} ],
	[ 'locking our tables', '42501', q{LOCK TABLE backfill.job IN ACCESS EXCLUSIVE MODE} ],
	[ 'dropping the extension', '42501', q{DROP EXTENSION backfill CASCADE} ],
	[ 'settings of the server', '25001', q{ALTER SYSTEM SET backfill.max_executors = 0} ],
	[ 'settings of ours', '55P02', q{SET backfill.max_executors = 0} ],
	[ 'predictable jitter', '42501', q{SET backfill.random_seed = 1} ],
	[ 'cancelling the dispatcher', '42501', q{SELECT pg_cancel_backend(pid) FROM public.dispatcher} ],
	[ 'terminating the dispatcher', '42501', q{SELECT pg_terminate_backend(pid) FROM public.dispatcher} ],
	[ 'files of the server', '42501', q{SELECT pg_read_file('PG_VERSION')} ],
	[ 'programs of the server', '42501', q{COPY public.report FROM PROGRAM 'true'} ],
	[ 'libraries', '42501', q{LOAD '/tmp/mallory.so'} ],
	[ 'COMMIT', '0A000', q{COMMIT} ],
	[ 'COMMIT in a DO block', '2D000', q{DO $x$ BEGIN COMMIT; END $x$} ],
	[ 'ROLLBACK', '0A000', q{ROLLBACK} ],
	[ 'a transaction of its own', '0A000', q{BEGIN} ],
	[ 'PREPARE TRANSACTION', '0A000', q{PREPARE TRANSACTION 'x'} ],
	[ 'isolation of a running transaction', '25001', q{SELECT 1}, q{SET TRANSACTION ISOLATION LEVEL SERIALIZABLE} ],
	[ 'DISCARD ALL', '25001', q{DISCARD ALL} ],
	[ 'running jobs inside of a job', '42501', q{CALL backfill.process_available_jobs()} ],
	[   'a search_path with planted functions and operators', '',
		q{CREATE FUNCTION mallory.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''planted''; END'},
		q{CREATE FUNCTION mallory.planted(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''planted''; END'},
		q{CREATE OPERATOR mallory.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = mallory.planted)},
		q{SET search_path = mallory, pg_catalog} ],
	[   'temporary tables with our names', '',
		q{CREATE TEMP TABLE job AS SELECT 1 AS id}, q{CREATE TEMP TABLE dead_letter (id int)},
		q{SET search_path = pg_temp, backfill, pg_catalog} ],
	[ 'read-only transactions', '', q{SET default_transaction_read_only = on}, q{SET LOCAL transaction_read_only = on} ],
	[ 'releasing all advisory locks', '', q{SELECT pg_advisory_unlock_all()} ],
	[ 'closing all cursors, its own loop among them', '24000', q{DEALLOCATE ALL}, q{CLOSE ALL} ],
	[ 'another isolation level', '', q{SET default_transaction_isolation = serializable} ],
	[ 'swallowed errors', '', q{SET statement_timeout = 1}, q{SET lock_timeout = 1} ],
);

for my $attempt (@attempts)
{
	my ($name, $sqlstate, @statements) = @$attempt;
	my $run = join(', ', map { s/'/''/gr } map { '"' . (s/"/\\"/gr) . '"' } @statements);
	# In one commit, so that the next job follows in the same batch.
	$node->safe_psql('postgres',
		    "SELECT backfill.enqueue_serial('attack', '{\"run\": [$run]}', 'order'), "
		  . "backfill.enqueue_serial('tell', '{\"what\": \"after\"}', 'order')");
	wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM backfill.job}, "$name: both jobs have ended");
	is( $node->safe_psql('postgres',
			q{SELECT last_error->>'sqlstate' FROM backfill.dlq WHERE task_identifier = 'attack' ORDER BY id DESC LIMIT 1}),
		$sqlstate, "$name: " . ($sqlstate eq '' ? 'allowed, with effect on itself only' : 'refused'));
	is( $node->safe_psql('postgres',
			q{SELECT role, session_role, path, read_only FROM report WHERE what = 'after' ORDER BY id DESC LIMIT 1}),
		'mallory|mallory|"$user", public|off', "$name: the next job notices nothing");
	$node->safe_psql('postgres', 'TRUNCATE backfill.dead_letter');
}

is($node->safe_psql('postgres', $our_tables), $before, 'our tables and rights are as they were');
is($node->safe_psql('postgres', q{SELECT count(*) FROM report WHERE what = 'after'}),
	scalar(@attempts), 'every innocent job ran once');
is($node->safe_psql('postgres', 'SELECT count(DISTINCT pid) FROM report'),
	1, 'all hostile handlers ran in one executor');
is($node->safe_psql('postgres', 'SELECT word FROM secret'), 'sesame', 'the secret was not touched');

# --- Objects that are found first: what the library's own statements call is planted, by
# name, in front of pg_catalog, in the role's every session. Each caller is noted. The jobs
# make the library write, update and remove dead letters.
$node->safe_psql(
	'postgres', q{
	CREATE SCHEMA traps AUTHORIZATION mallory;
	CREATE TABLE trapped (role text, session_role text, what text);
	GRANT INSERT ON trapped TO PUBLIC;
	GRANT USAGE ON SCHEMA traps TO PUBLIC;
	SET ROLE mallory;
	CREATE FUNCTION traps.trap(what text) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO public.trapped VALUES (current_user, session_user, what) $$;
	CREATE FUNCTION traps.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS
		$$ BEGIN PERFORM traps.trap('clock_timestamp'); RETURN pg_catalog.now(); END $$;
	CREATE FUNCTION traps.now() RETURNS timestamptz LANGUAGE plpgsql AS
		$$ BEGIN PERFORM traps.trap('now'); RETURN pg_catalog.clock_timestamp(); END $$;
	CREATE FUNCTION traps.nextval(regclass) RETURNS bigint LANGUAGE plpgsql AS
		$$ BEGIN PERFORM traps.trap('nextval'); RETURN 1; END $$;
	CREATE FUNCTION traps.equals(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS
		$$ BEGIN PERFORM traps.trap('='); RETURN true; END $$;
	CREATE FUNCTION traps.equals(text, text) RETURNS boolean LANGUAGE plpgsql AS
		$$ BEGIN PERFORM traps.trap('='); RETURN true; END $$;
	CREATE FUNCTION traps.plus(integer, integer) RETURNS integer LANGUAGE plpgsql AS
		$$ BEGIN PERFORM traps.trap('+'); RETURN 42; END $$;
	CREATE OPERATOR traps.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = traps.equals);
	CREATE OPERATOR traps.= (LEFTARG = text, RIGHTARG = text, FUNCTION = traps.equals);
	CREATE OPERATOR traps.+ (LEFTARG = integer, RIGHTARG = integer, FUNCTION = traps.plus);
	CREATE TABLE traps.trace (n int);
	CREATE FUNCTION traps.when_deferred() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN PERFORM traps.trap('deferred trigger'); RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER later AFTER INSERT ON traps.trace DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION traps.when_deferred();
	RESET ROLE;
	ALTER ROLE mallory SET search_path = traps, pg_catalog, pg_temp;
	SELECT pg_terminate_backend(pid) FROM backfill.workers WHERE kind = 'executor';
});
my $shadow = join(', ', map { "\"$_\"" } (
		'CREATE TEMP TABLE dead_letter (id bigint)', 'CREATE TEMP TABLE job (id bigint)', 'CREATE TEMP TABLE task (id bigint)',
		'INSERT INTO traps.trace VALUES (1)', 'SET search_path = pg_temp, traps, backfill, pg_catalog'));
my $trip = q{"SELECT 1 + 1, clock_timestamp()"};
my $failures = 0;
for my $ending (q{, "SELECT 1 / 0"}, q{, "SELECT 1 / 0"}, '')
{
	$node->safe_psql('postgres', qq{SELECT backfill.enqueue('attack', jsonb_build_object('run', \$x\$[$shadow, $trip$ending]\$x\$::jsonb), job_key => 'k')});
	wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM backfill.job}, 'a job with traps ends');
	$failures++ if $ending ne '';
	is($node->safe_psql('postgres', q{SELECT failure_count, last_error->>'sqlstate' FROM backfill.list_dlq_jobs()}),
		$ending eq '' ? '' : "$failures|22012", 'the dead letter of the job with traps is right');
}
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT what, ', ' ORDER BY what) FROM trapped}),
	'+, clock_timestamp, deferred trigger', "only the job's own statements stepped into the traps");
is($node->safe_psql('postgres', q{SELECT DISTINCT role, session_role FROM trapped}),
	'mallory|mallory', 'no role but mallory stepped into the traps');

# --- A serial queue stays serial, whatever advisory locks its job gives away.
$node->safe_psql('postgres', q{ALTER SYSTEM SET backfill.max_executors = 3});
$node->reload;
my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql(
	'postgres', q{
	TRUNCATE report;
	SELECT backfill.enqueue_serial('attack', '{"run": ["SELECT pg_advisory_unlock_all()", "SELECT pg_advisory_xact_lock(1)"]}', 'order'),
		   backfill.enqueue_serial('tell', '{"what": "second"}', 'order')});
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM backfill.jobs WHERE state = 'running' AND task_identifier = 'attack'},
	'the first job of a serial queue has given all advisory locks away');
$node->safe_psql('postgres', q{SELECT backfill.enqueue('tell', '{"what": "elsewhere"}')});
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM report WHERE what = 'elsewhere'}, 'other queues go on');
is($node->safe_psql('postgres', q{SELECT count(*) FROM report WHERE what = 'second'}), 0, 'the second job of the serial queue waits');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM report WHERE what = 'second'}, 'the second job of the serial queue runs when the first has ended');
$gate->quit;

$node->stop;
check_log($node);
done_testing();

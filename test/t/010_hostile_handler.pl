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
	CREATE SCHEMA mallory AUTHORIZATION mallory;
	GRANT CREATE ON SCHEMA public TO mallory;
	CREATE TABLE report (id bigint GENERATED ALWAYS AS IDENTITY, what text, who text, session_who text, path text,
		read_only text, pid int DEFAULT pg_backend_pid());
	GRANT INSERT ON report TO mallory;
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
		INSERT INTO public.report (what, who, session_who, path, read_only)
		VALUES (payload->>'what', current_user, session_user, current_setting('search_path'),
				current_setting('transaction_read_only')) $$;
	RESET ROLE;
	SELECT backfill.register_task('attack', 'mallory.attack(jsonb)', run_as => 'mallory', retry_policy => 'once'),
		   backfill.register_task('tell', 'mallory.tell(jsonb)', run_as => 'mallory', retry_policy => 'once');
	SELECT backfill.enqueue_serial('tell', '{"what": "before"}', 'order');
});
wait_until($node, 'postgres', 'SELECT count(*) = 1 FROM report', 'an innocent job runs first');
my $pid = $node->safe_psql('postgres', 'SELECT pid FROM report');

my $our_tables = q{
	SELECT md5(string_agg(t::text, ',')) FROM (
		SELECT t::text FROM backfill.task t UNION ALL SELECT p::text FROM backfill.producer p
		UNION ALL SELECT q::text FROM backfill.queue q UNION ALL SELECT r::text FROM backfill.retry_policy r ORDER BY 1) t};
my $before = $node->safe_psql('postgres', $our_tables);

# Each attempt: a name, the statements, and the SQLSTATE it must end with ('' where the
# statements themselves are allowed and must just achieve nothing).
my @attempts = (
	[ 'SET SESSION AUTHORIZATION', '42501', q{SET SESSION AUTHORIZATION postgres} ],
	[ 'RESET SESSION AUTHORIZATION and look', '42501', q{RESET SESSION AUTHORIZATION}, q{SELECT * FROM public.secret} ],
	[ 'SET ROLE', '42501', q{SET ROLE postgres} ],
	[ 'set_config of the role', '42501', q{SELECT set_config('role', 'postgres', false)} ],
	[ 'RESET ROLE and look', '42501', q{RESET ROLE}, q{SELECT * FROM public.secret} ],
	[ 'reading jobs', '42501', q{SELECT * FROM backfill.job} ],
	[ 'writing jobs', '42501', q{DELETE FROM backfill.job} ],
	[ 'writing dead letters', '42501', q{DELETE FROM backfill.dead_letter} ],
	[ 'changing tasks', '42501', q{UPDATE backfill.task SET run_as = 'postgres'} ],
	[ 'enqueueing without the right', '42501', q{SELECT backfill.enqueue('attack')} ],
	[ 'registering a task', '42501', q{SELECT backfill.register_task('mine', 'mallory.tell(jsonb)', run_as => 'postgres')} ],
	[ 'internal functions', '42501', q{SELECT backfill._requeue(1, 1, 'tell', '{}', 'bulk', 0, 1, NULL, NULL)} ],
	[ 'replication role', '42501', q{SET session_replication_role = replica} ],
	[ 'COMMIT', '0A000', q{COMMIT} ],
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
		$sqlstate, "$name: " . ($sqlstate eq '' ? 'allowed, for itself' : 'refused'));
	is( $node->safe_psql('postgres',
			q{SELECT who, session_who, path, read_only FROM report WHERE what = 'after' ORDER BY id DESC LIMIT 1}),
		'mallory|mallory|"$user", public|off', "$name: the next job notices nothing");
	$node->safe_psql('postgres', 'TRUNCATE backfill.dead_letter');
}

is($node->safe_psql('postgres', $our_tables), $before, 'our tables are as they were');
is($node->safe_psql('postgres', q{SELECT count(*) FROM report WHERE what = 'after'}),
	scalar(@attempts), 'every innocent job ran once');
is($node->safe_psql('postgres', 'SELECT count(DISTINCT pid) FROM report'),
	1, 'all of this happened in one executor');
is($node->safe_psql('postgres', 'SELECT word FROM secret'), 'sesame', 'the secret was not touched');

$node->stop;
check_log($node);
done_testing();

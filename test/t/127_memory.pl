# An executor gives back the memory of a big job when the job is over: a later job of the same process finds
# no more than before, whatever was big: the payload, the result, the error, or what the handler did.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use Test::More;

my $node = preloaded('memory', conf => "backfill.max_executors = 1\nbackfill.executor_idle_timeout = '1h'\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE measured (id bigint GENERATED ALWAYS AS IDENTITY, pid int, bytes bigint, contexts text);
	-- The contexts that are there for the whole life of the process, the largest by name.
	CREATE FUNCTION measure(payload jsonb) RETURNS void LANGUAGE sql AS $$
		INSERT INTO measured (pid, bytes, contexts)
		SELECT pg_backend_pid(), sum(total_bytes), string_agg(name || ' ' || total_bytes, ', ' ORDER BY total_bytes DESC) FILTER (WHERE total_bytes > 1000000)
		  FROM pg_backend_memory_contexts $$;
	-- A constant would be kept in a plan.
	CREATE FUNCTION big_text() RETURNS text LANGUAGE plpgsql VOLATILE AS $$ DECLARE n int := 30000000; BEGIN RETURN repeat('x', n); END $$;
	CREATE FUNCTION big(payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		CASE payload->>'what'
			WHEN 'result' THEN PERFORM backfill.set_result(to_jsonb(big_text()));
			WHEN 'rolled back' THEN
				BEGIN
					PERFORM backfill.set_result(to_jsonb(big_text()));
					RAISE 'no';
				EXCEPTION WHEN raise_exception THEN NULL;
				END;
			WHEN 'returned' THEN RETURN to_jsonb(big_text());
			WHEN 'error' THEN RAISE '%', big_text();
			WHEN 'caught' THEN
				BEGIN
					RAISE '%', big_text();
				EXCEPTION WHEN raise_exception THEN NULL;
				END;
			WHEN 'discard' THEN PERFORM backfill.discard(big_text());
			WHEN 'rows' THEN PERFORM set_config('work_mem', '1GB', true); PERFORM count(DISTINCT g) FROM generate_series(1, 300000) g;
			ELSE
		END CASE;
		RETURN NULL;
	END $$;
	CREATE PROCEDURE big_procedure(payload jsonb) LANGUAGE plpgsql AS $$
	BEGIN
		COMMIT;
		IF payload->>'what' = 'result' THEN PERFORM backfill.set_result(to_jsonb(big_text()));
		ELSIF payload->>'what' = 'error' THEN RAISE '%', big_text();
		END IF;
	END $$;
	SELECT backfill.register_task('measure', 'measure(jsonb)'), backfill.register_task('big', 'big(jsonb)', max_attempts => 1, keep_history => '1 day'),
	       backfill.register_task('plain', 'big(jsonb)', max_attempts => 1),
	       backfill.register_task('procedure', 'big_procedure(jsonb)', max_attempts => 1, keep_history => '1 day');
});

sub run
{
	my ($task, $payload, $name) = @_;
	$node->safe_psql('postgres', "SELECT backfill.enqueue('$task', $payload)");
	wait_until($node, 'postgres', 'SELECT count(*) FROM backfill.jobs', "$name: its end", 0);
	return;
}

sub measure
{
	my ($name) = @_;
	run('measure', "'{}'", "$name: measured");
	return split /\|/, $node->safe_psql('postgres', 'SELECT pid, bytes, contexts FROM measured ORDER BY id DESC LIMIT 1');
}

# Once, so that what is kept on purpose (catalog, plans) is there.
for my $task ('big', 'plain', 'procedure')
{
	run($task, qq{'{"what": "nothing"}'}, "a small job of $task");
	run($task, qq{'{"what": "error"}'}, "one of $task that fails") if $task ne 'plain';
}
my ($pid, $before) = measure('before');

my @big = (map { [ 'big', $_ ] } 'result', 'rolled back', 'returned', 'error', 'caught', 'discard', 'rows', 'payload');
push @big, (map { [ 'plain', $_ ] } 'result', 'payload'), (map { [ 'procedure', $_ ] } 'result', 'error', 'payload');
for (@big)
{
	my ($task, $what) = @$_;
	my $payload = qq{jsonb_build_object('what', '$what'} . ($what eq 'payload' ? ", 'text', big_text())" : ')');
	run($task, $payload, "$task, $what");
	my ($same, $after, $contexts) = measure("$task, $what");
	is($same, $pid, "$task, $what: the next job is run by the same process");
	cmp_ok($after - $before, '<', 2_000_000, "$task, $what: it has given the memory back") or diag($contexts);
}

# A claim from a queue with many places, most of which are taken, needs the memory of what it returns: the leased jobs
# are not read again for each job.
$node->safe_psql('postgres', q{
	SELECT backfill.register_task('external'), backfill.set_queue('wide', 1000);
	SELECT count(*) FROM backfill.enqueue_many('external', ARRAY(SELECT to_jsonb(repeat('x', 500)) FROM generate_series(1, 900)), 'wide')});
$node->safe_psql('postgres', q{SELECT count(*) FROM backfill.claim_jobs('me', 200)}) for 1 .. 3;
my ($claimed, $grown) = split /\|/, $node->safe_psql('postgres', q{
	CREATE FUNCTION pg_temp.most_kb() RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT substring(pg_read_file('/proc/self/status') FROM 'VmHWM:\s+(\d+)')::int $$;
	SELECT pg_temp.most_kb() AS most, count(*) AS claimed FROM backfill.claim_jobs('me', 1) \gset
	SELECT :claimed + count(*), pg_temp.most_kb() - :most FROM backfill.claim_jobs('me', 199)});
is($claimed, 200, 'beside 600 leased jobs 200 are claimed');
cmp_ok($grown, '<', 50_000, 'which takes little memory');

done_testing();

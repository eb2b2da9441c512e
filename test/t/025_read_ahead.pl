# Executors pass over what another one has read ahead. Nothing waits for that: neither behind a job
# that turns out to be slow, nor for its turn.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

# No sweep finds jobs that were forgotten.
my $node = preloaded('read_ahead',
	conf => "backfill.poll_interval = '1h'\nbackfill.max_executors = 2\nbackfill.batch_time = '1s'\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE ran (seq bigserial, n int, pid int DEFAULT pg_backend_pid());
	-- Writes only if asked to: a batch has room for 60 jobs that write, and for any number of others.
	CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF payload ? 'lock' THEN PERFORM pg_advisory_lock_shared((payload->>'lock')::int); END IF;
		IF payload ? 'write' THEN INSERT INTO ran (n) VALUES ((payload->>'n')::int); END IF;
	END $$;
	SELECT backfill.register_task('note', 'note(jsonb)'), backfill.register_task('other', 'note(jsonb)');
});

my $keeper = $node->background_psql('postgres');

sub wait_for_blocked
{
	my ($count, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, 'postgres',
		q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'backfill executor' AND wait_event_type = 'Lock'},
		$name, $count);
}

sub enqueue
{
	my ($from, $to, $extra) = @_;
	$node->safe_psql('postgres', qq{SELECT count(*) FROM backfill.enqueue_many('note',
		ARRAY(SELECT jsonb_build_object('n', n) || $extra FROM generate_series($from, $to) n))});
	return;
}

# --- A job in the midst of others hangs: all that its executor had read ahead runs elsewhere.

# Few jobs, again and again: the other executor must find nothing else while they still count as read ahead.
for my $round (1 .. 30)
{
	my $count = $round % 3 ? 60 : 5000;
	$keeper->query_safe('SELECT pg_advisory_lock(1)');
	enqueue(1, $count, qq{CASE n WHEN $count / 3 THEN '{"lock": 1}' ELSE '{}' END::jsonb});
	wait_for_blocked(1, "round $round: a job hangs");
	wait_until($node, 'postgres', q{SELECT count(*) FROM backfill.jobs WHERE state = 'ready'}, "round $round: nothing waits for it", 0);
	$keeper->query_safe('SELECT pg_advisory_unlock(1)');
	wait_until($node, 'postgres', 'SELECT count(*) FROM backfill.job', "round $round: in the end all have run", 0);
}

# --- Those read ahead by an executor that hangs do not lose their turn: another one, once it is
# free, runs them before later ones.

$keeper->query_safe('SELECT pg_advisory_lock(1), pg_advisory_lock(2)');
$node->safe_psql('postgres', q{SELECT backfill.enqueue('other', '{"lock": 2}')});
wait_for_blocked(1, 'one executor is busy');
enqueue(1, 200, q{CASE n WHEN 55 THEN '{"lock": 1, "write": 1}' ELSE '{"write": 1}' END::jsonb});
wait_for_blocked(2, 'the other executor hangs');
# Others pass over what it has read ahead for 10 ms.
wait_until($node, 'postgres', q{SELECT bool_and(clock_timestamp() - waitstart > '20 ms') FROM pg_locks WHERE NOT granted}, 'for long enough');
enqueue(201, 250, q{'{"write": 1}'::jsonb});
$keeper->query_safe('SELECT pg_advisory_unlock(2)');
wait_until($node, 'postgres', q{SELECT count(*) FROM backfill.jobs WHERE state = 'ready'}, 'one is free, and runs what is left', 0);
wait_until($node, 'postgres', q{SELECT count(*) FROM ran WHERE n > 55}, 'all of it', 195);
is($node->safe_psql('postgres', q{SELECT count(*) FROM (SELECT n, lag(n) OVER (ORDER BY seq) AS before FROM ran WHERE n > 55) x
	WHERE n < before}), 0, 'the jobs read ahead ran in their order');
$keeper->query_safe('SELECT pg_advisory_unlock(1)');
wait_until($node, 'postgres', 'SELECT count(*) FROM backfill.job', 'and the rest', 0);
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT n) FROM ran'), '250|250', 'each exactly once');

# --- Two executors at full speed, which pass each other all the time: exactly once, nothing left.

enqueue(1001, 11000, q{'{"write": 1}'::jsonb});
wait_until($node, 'postgres', 'SELECT count(*) FROM backfill.job', 'two executors run many jobs', 0);
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT n), count(DISTINCT pid) FROM ran WHERE n > 1000'),
	'10000|10000|2', 'both executors ran jobs, each job exactly once');

$keeper->quit;
$node->stop;
check_log($node);
done_testing();

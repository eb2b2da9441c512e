# Executors that are reserved for urgent jobs, and ageing. Bulk jobs wait for a lock that the
# test holds, so they keep their executors as long as it wants.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('lanes',
	conf => "backfill.poll_interval = '1h'\nbackfill.max_executors = 4\nbackfill.reserved_urgent_executors = 1\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE ran (n bigint GENERATED ALWAYS AS IDENTITY, name text);
	CREATE FUNCTION wait(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(1);
		INSERT INTO ran (name) VALUES (payload->>'name');
	END $$;
	CREATE FUNCTION run(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO ran (name) VALUES (payload->>'name') $$;
	CREATE FUNCTION job(task text, name text, priority int, run_at timestamptz DEFAULT NULL) RETURNS bigint LANGUAGE sql AS $$
		SELECT backfill.enqueue(task, jsonb_build_object('name', name), 'any', priority, run_at)
	$$;
	SELECT backfill.register_task('wait', 'wait(jsonb)'), backfill.register_task('run', 'run(jsonb)');
});
my $running = q{SELECT count(*) FROM backfill.workers WHERE task_identifier = 'wait' AND job_id IS NOT NULL};

# --- Three of four executors may run bulk jobs.

my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', q{SELECT job('wait', 'bulk ' || i, 0) FROM generate_series(1, 12) i});
wait_until($node, 'postgres', "SELECT ($running) = 3", 'three executors are busy with bulk jobs');
$node->safe_psql('postgres', q{SELECT backfill.enqueue_emergency('run', '{"name": "emergency"}')});
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM ran WHERE name = 'emergency'}, 'an EMERGENCY job runs while they are');
for my $priority (-20, -5, -1)
{
	$node->safe_psql('postgres', "SELECT job('run', 'urgent $priority ' || i, $priority) FROM generate_series(1, 20) i");
	wait_until($node, 'postgres', "SELECT count(*) = 20 FROM ran WHERE name LIKE 'urgent $priority %'", "jobs of priority $priority are urgent");
}
is($node->safe_psql('postgres', $running), 3, 'the reserved executor has not taken a bulk job');
$node->safe_psql('postgres', q{SELECT job('run', 'bulk that waits', 0)});
$node->safe_psql('postgres', q{SELECT job('run', 'behind it', -20)});
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM ran WHERE name = 'behind it'}, 'an urgent job that came later runs');
is($node->safe_psql('postgres', q{SELECT count(*) FROM ran WHERE name = 'bulk that waits'}), 0, 'priority 0 is not urgent: it waits');

# Urgent jobs may take every executor.
$gate->query_safe('SELECT pg_advisory_unlock(1)');
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'when bulk executors are free, bulk jobs go on');
$gate->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', q{TRUNCATE ran; SELECT job('wait', 'urgent ' || i, -20) FROM generate_series(1, 8) i});
wait_until($node, 'postgres', "SELECT ($running) = 4", 'urgent jobs get all four executors');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'the bulk jobs end');

# --- Nothing reserved: bulk jobs get every executor.

$node->append_conf('postgresql.conf', "backfill.reserved_urgent_executors = 0\n");
$node->reload;
$node->poll_query_until('postgres', q{SELECT current_setting('backfill.reserved_urgent_executors') = '0'}) or die;
$gate->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('postgres', q{SELECT job('wait', 'bulk ' || i, 0) FROM generate_series(1, 8) i});
wait_until($node, 'postgres', "SELECT ($running) = 4", 'without a reserve bulk jobs get all four');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'the bulk jobs end without a reserve, too');
$gate->quit;

# --- Ageing. No executors; a session runs what is ready, in order.

my $order = q{SELECT string_agg(name, ', ' ORDER BY n) FROM ran};
my $jobs = q{
	TRUNCATE ran;
	SELECT job('run', 'urgent', -5), job('run', 'bulk', 0), job('run', 'old bulk', 0, now() - interval '10 minutes'),
	       job('run', 'old lowest', 10, now() - interval '10 minutes'), job('run', 'lowest', 10);
	CALL backfill.process_available_jobs();
};
sub set_ageing
{
	my ($value) = @_;
	$node->append_conf('postgresql.conf', "backfill.max_executors = 0\nbackfill.ageing_interval = '$value'\n");
	$node->reload;
	$node->poll_query_until('postgres', qq{SELECT current_setting('backfill.ageing_interval') = '$value'}) or die;
	return;
}
set_ageing('0');
wait_for_workers($node, 'executor', undef, 0, 'the executors end');
$node->safe_psql('postgres', $jobs);
is($node->safe_psql('postgres', $order), 'urgent, old bulk, bulk, old lowest, lowest', 'without ageing the priority decides');
set_ageing('1min');
$node->safe_psql('postgres', $jobs);
is($node->safe_psql('postgres', $order), 'old bulk, urgent, old lowest, bulk, lowest',
	'a job that has waited ten ageing intervals counts as ten priorities better');
set_ageing('1h');
$node->safe_psql('postgres', $jobs);
is($node->safe_psql('postgres', $order), 'urgent, old bulk, bulk, old lowest, lowest', 'ten minutes are nothing to an interval of an hour');

$node->stop;
check_log($node);
done_testing();

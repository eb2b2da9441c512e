# A transaction with very many keys takes up next to nothing of the server's table of locks, and
# other sessions do not notice it: they go on with keys of their own while it is open.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $keys = 100_000;

my $node = preloaded('many', conf => "backfill.max_executors = 0\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE FUNCTION locks() RETURNS text LANGUAGE sql AS
		$$ SELECT CASE WHEN count(*) < 100 THEN 'few' ELSE count(*)::text END FROM pg_locks WHERE pid = pg_backend_pid() $$;
});

# Each way to enqueue them, in a transaction that stays open until the others have ended.
my %ways = (
	'enqueue_jobs()' => qq{SELECT count(*) FROM backfill.enqueue_jobs((SELECT jsonb_agg(jsonb_build_object(
		'task_identifier', 'note', 'job_key', 'many ' || g)) FROM generate_series(1, $keys) g))},
	'add_jobs()' => qq{SELECT count(*) FROM backfill.add_jobs(ARRAY(
		SELECT ('note', NULL, NULL, NULL, NULL, 'many ' || g, NULL, NULL)::backfill.job_spec FROM generate_series(1, $keys) g))},
	'enqueue()' => qq{SELECT count(backfill.enqueue('note', job_key => 'many ' || g)) FROM generate_series(1, $keys) g},
);
for my $way (sort keys %ways)
{
	my $many = $node->background_psql('postgres');
	# They work from before it begins until it is at its end, and all wait for nothing of it.
	my $others = start_pgbench(
		$node, 'postgres', q{
\set n random(1, 100)
SET lock_timeout = '100s';
SELECT backfill.enqueue('note', job_key => 'own ' || :client_id || ' ' || :n);
SELECT count(*) FROM backfill.enqueue_jobs(jsonb_build_array(
	jsonb_build_object('task_identifier', 'note', 'job_key', 'own ' || :client_id || ' a'),
	jsonb_build_object('task_identifier', 'note', 'job_key', 'own ' || :client_id || ' b')));
}, '-c', 8, '-t', 200);
	is($many->query_safe("BEGIN; $ways{$way}"), $keys, "$way of $keys jobs with a key each");
	is($many->query_safe('SELECT locks()'), 'few', "$way of $keys jobs with a key each holds few locks");
	is(finish_pgbench($others), 0, "$way: 8 sessions that enqueue with keys get no error");
	is( $node->safe_psql(
			'postgres', q{
		SET lock_timeout = '1s'; -- it is open: whatever waits for it would wait for ever
		SELECT count(backfill.enqueue('note', job_key => 'another ' || n)) FROM generate_series(1, 500) n}),
		500, "$way: a producer with as many keys does not wait because it has many itself");
	my ($code, $out, $err) = $node->psql('postgres', q{SET lock_timeout = '1s'; SELECT backfill.enqueue('note', job_key => 'many 77777')});
	like($err, qr/lock timeout/, 'a producer that names one of the many keys waits');
	$many->query_safe('COMMIT');
	$many->quit;
	is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT job_key) FROM backfill.job WHERE job_key LIKE 'many %'}),
		"$keys|$keys", "$way: there is a job for each key at its end");
	$node->safe_psql('postgres', 'TRUNCATE backfill.job');
}

# Graphile Worker's jobs, with keys.
$node->safe_psql('postgres', slurp_file("$FindBin::RealBin/../data/graphile_worker.sql"));
$node->safe_psql(
	'postgres', q{
	INSERT INTO graphile_worker._private_tasks (identifier) VALUES ('note');
	INSERT INTO graphile_worker._private_jobs (task_id, payload, key)
	SELECT (SELECT id FROM graphile_worker._private_tasks), '{}', 'key ' || g FROM generate_series(1, 25000) g;
});
my $script = $node->config_data('--sharedir') . '/extension/migrate_from_graphile_worker.sql';
my ($code, $out, $err) = finish_psql(start_psql($node, 'postgres', slurp_file($script)));
is($err, '', 'the migration of 25,000 jobs with keys from Graphile Worker gives no error');
is($node->safe_psql('postgres', q{SELECT count(*) FROM backfill.job WHERE job_key LIKE 'key %'}), 25000, 'the migration of 25,000 jobs moves them all');

# A prepared transaction keeps its keys through a restart.
$node->append_conf('postgresql.conf', 'max_prepared_transactions = 2');
$node->restart;
$node->safe_psql('postgres', q{BEGIN; SELECT count(backfill.enqueue('note', job_key => 'prepared ' || g)) FROM generate_series(1, 200) g; PREPARE TRANSACTION 'many'});
$node->restart;
my $waiting = start_pgbench($node, 'postgres', q{SELECT backfill.enqueue('note', job_key => 'prepared 100');}, '-t', 1);
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT backfill.enqueue%'}, 'a producer waits for a prepared transaction with many keys');
$node->safe_psql('postgres', q{COMMIT PREPARED 'many'});
is(finish_pgbench($waiting), 0, 'a producer goes on when the prepared transaction is committed');
is($node->safe_psql('postgres', q{SELECT count(*) FROM backfill.job WHERE job_key = 'prepared 100'}), 1, 'the producer replaces the prepared job');

$node->stop;
check_log($node);
done_testing();

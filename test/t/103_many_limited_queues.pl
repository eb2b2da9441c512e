# A transaction that adds jobs to very many queues with a max_depth, or deletes very many queues,
# takes up next to nothing of the server's table of locks, and other sessions do not notice it.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $queues = 20_000;

my $node = preloaded('limited', conf => "backfill.max_executors = 0\n");
create_extension($node);
$node->safe_psql(
	'postgres', qq{
	CREATE FUNCTION locks() RETURNS text LANGUAGE sql AS
		\$\$ SELECT CASE WHEN count(*) < 100 THEN 'few' ELSE count(*)::text END FROM pg_locks WHERE pid = pg_backend_pid() \$\$;
	INSERT INTO backfill.queue (queue_name, max_depth) SELECT 'many ' || g, 2 FROM generate_series(1, $queues) g;
	INSERT INTO backfill.queue (queue_name, max_depth) SELECT 'own ' || g, 1000000 FROM generate_series(0, 8) g;
});

# Each way to enqueue, in a transaction that stays open until the others have ended.
my %ways = (
	'enqueue_jobs()' => qq{SELECT count(*) FROM backfill.enqueue_jobs((SELECT jsonb_agg(jsonb_build_object(
		'task_identifier', 'note', 'queue_name', 'many ' || g)) FROM generate_series(1, $queues) g))},
	'enqueue()' => qq{SELECT count(backfill.enqueue('note', queue_name => 'many ' || g)) FROM generate_series(1, $queues) g},
);
for my $way (sort keys %ways)
{
	my $many = $node->background_psql('postgres');
	my $others = start_pgbench(
		$node, 'postgres', q{
SET lock_timeout = '100s';
SELECT backfill.enqueue('note', queue_name => 'own ' || :client_id);
SELECT count(*) FROM backfill.enqueue_jobs(jsonb_build_array(
	jsonb_build_object('task_identifier', 'note', 'queue_name', 'own ' || :client_id),
	jsonb_build_object('task_identifier', 'note', 'queue_name', 'own 8')));
}, '-c', 8, '-t', 20);
	is($many->query_safe("BEGIN; $ways{$way}"), $queues, "$way into $queues queues that have a max_depth");
	is($many->query_safe('SELECT locks()'), 'few', "$way into $queues queues holds few locks");
	is(finish_pgbench($others), 0, "$way: 8 sessions that enqueue into other queues get no error");
	my ($code, $out, $err) = $node->psql('postgres', q{SET lock_timeout = '1s'; SELECT backfill.enqueue('note', queue_name => 'many 7777')});
	like($err, qr/lock timeout/, '... but a producer that wants a place in one of them waits');
	$many->query_safe('COMMIT');
	$many->quit;
}
is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT queue_name) FROM backfill.job WHERE queue_name LIKE 'many %'}),
	2 * $queues . "|$queues", 'all jobs are there');
my ($code, $out, $err) = $node->psql('postgres', q{SELECT backfill.enqueue('note', queue_name => 'many 7777')});
like($err, qr/queue "many 7777" is full/, 'the queues are full');

# A prepared transaction keeps its places.
$node->append_conf('postgresql.conf', 'max_prepared_transactions = 2');
$node->restart;
$node->safe_psql('postgres', q{
	TRUNCATE backfill.job;
	BEGIN; SELECT count(backfill.enqueue('note', queue_name => 'many ' || g)) FROM generate_series(1, 200) g; PREPARE TRANSACTION 'many'});
$node->restart;
my $waiting = start_pgbench($node, 'postgres', q{SELECT backfill.enqueue('note', queue_name => 'many 100');}, '-t', 1);
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT backfill.enqueue%'}, 'a producer waits for a prepared transaction with many queues');
$node->safe_psql('postgres', q{COMMIT PREPARED 'many'});
is(finish_pgbench($waiting), 0, 'until it is committed');

# Queues are deleted in one transaction.
$node->safe_psql('postgres', 'TRUNCATE backfill.job');
is($node->safe_psql('postgres', q{BEGIN; SELECT count(backfill.delete_queue(queue_name)) FROM backfill.queue WHERE queue_name LIKE 'many %'; SELECT locks()}),
	"$queues\nfew", "$queues queues are deleted with few locks");

$node->stop;
check_log($node);
done_testing();

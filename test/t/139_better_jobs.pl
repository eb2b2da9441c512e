# A better job that comes while an executor is in the midst of a batch is its next one: neither the candidates that
# it has read ahead go first, nor the rest of the batch. What the executor had read is not lost, and not run twice.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

# A batch lasts as long as it may. The first jobs take no time, so that the executor reads many at once; of those
# that follow a whole batch has room for fewer than it has read.
my $in_a_hurry = 1100;
my $all = 4000;
my $node = preloaded('better', conf => "backfill.poll_interval = '1h'\nbackfill.max_executors = 1\nbackfill.batch_time = '1s'\ntest.in_a_hurry = $in_a_hurry\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE SEQUENCE begun;
	CREATE TABLE begun_at (name text, n bigint);
	CREATE FUNCTION bulk(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF nextval('begun') > current_setting('test.in_a_hurry')::int THEN PERFORM pg_sleep(0.0008); END IF;
	END $$;
	CREATE FUNCTION better(payload jsonb) RETURNS void LANGUAGE sql AS $$
		INSERT INTO begun_at VALUES (payload->>'name', nextval('begun'))
	$$;
	SELECT backfill.register_task('bulk', 'bulk(jsonb)'), backfill.register_task('better', 'better(jsonb)');
});

# Enqueues a better job in the midst of bulk jobs; returns how many began after its commit and before it.
my $round = 0;
sub overtaken_by
{
	my ($enqueue, $bulk_priority) = @_;
	my $name = 'round ' . ++$round;
	$node->safe_psql('postgres', qq{
		SELECT setval('begun', 1, false);
		SELECT count(*) FROM backfill.enqueue_many('bulk', ARRAY(SELECT '{}'::jsonb FROM generate_series(1, $all)), priority => $bulk_priority)});
	$node->poll_query_until('postgres', "SELECT last_value > $in_a_hurry FROM begun") or die 'the bulk jobs do not begin';
	my $committed = $node->safe_psql('postgres', "$enqueue('better', '{\"name\": \"$name\"}'); SELECT last_value FROM begun");
	$committed = (split /\n/, $committed)[-1];
	cmp_ok($committed, '<', $all, "$name: bulk jobs are left when the better one comes");
	wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', "$name: all jobs have ended");
	is($node->safe_psql('postgres', "SELECT count(*) FROM begun_at WHERE name = '$name'"), 1, "$name: the better one has run once");
	is($node->safe_psql('postgres', 'SELECT last_value FROM begun'), $all + 1, "$name: and each of the others");
	return $node->safe_psql('postgres', "SELECT n - 1 - $committed FROM begun_at WHERE name = '$name'");
}

for my $enqueue ('SELECT backfill.enqueue_emergency', 'SELECT backfill.enqueue_fast')
{
	cmp_ok(overtaken_by($enqueue, 0), '<=', 10, "$enqueue: an executor runs it before what it has read");
}
cmp_ok(overtaken_by('SELECT backfill.enqueue_bulk', 10), '<=', 10, 'among bulk jobs, too');

$node->stop;
check_log($node);
done_testing();

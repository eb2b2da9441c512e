# A better job that comes while an executor is in the midst of a batch is its next one: neither the candidates that
# it has read ahead go first, nor the rest of the batch. What the executor had read is not lost, and not run twice.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

# The first jobs take no time, so that the executor soon reads a thousand at once. Those that follow take a millisecond, so
# that a batch, though it lasts as long as it may, has room for fewer than it has read. One of them enqueues the better
# job, by a session of its own.
my $in_a_hurry = 1100;
my $enqueues = 1400;
my $all = 3000;
# Nothing else may be run again, because runs are counted.
my $node = preloaded('better', conf => "backfill.undo_faults = 0\nbackfill.poll_interval = '1h'\nbackfill.max_executors = 1\nbackfill.batch_time = '1s'\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION dblink;
	CREATE SEQUENCE begun;
	CREATE TABLE begun_at (name text, n bigint);
	CREATE TABLE step (n bigint, what text);
	CREATE FUNCTION bulk(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		me constant bigint := nextval('begun');
	BEGIN
		IF me > (SELECT s.n FROM step s WHERE s.what = 'slowly') THEN PERFORM pg_sleep(0.0008); END IF;
		PERFORM dblink_exec('dbname=postgres host=' || current_setting('unix_socket_directories') || ' port=' || current_setting('port'), s.what)
		   FROM step s WHERE s.n = me AND s.what <> 'slowly';
	END $$;
	CREATE FUNCTION better(payload jsonb) RETURNS void LANGUAGE sql AS $$
		INSERT INTO begun_at VALUES (payload->>'name', nextval('begun'))
	$$;
	SELECT backfill.register_task('bulk', 'bulk(jsonb)'), backfill.register_task('better', 'better(jsonb)');
});

# The better job comes in the midst of bulk jobs: an assertion that few of them began after it was there. A look that
# took long is not repeated soon, hence a hundred.
sub is_next
{
	my ($enqueue, $bulk_priority, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql('postgres', qq{
		TRUNCATE begun_at, step;
		SELECT setval('begun', 1, false);
		INSERT INTO step VALUES ($in_a_hurry, 'slowly'), ($enqueues, 'DO \$\$ BEGIN PERFORM backfill.$enqueue(''better'', ''{}''); END \$\$');
		SELECT count(*) FROM backfill.enqueue_many('bulk', ARRAY(SELECT '{}'::jsonb FROM generate_series(1, $all)), priority => $bulk_priority)});
	wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', "$name: all jobs have ended");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM begun_at'), 1, "$name: the better one has run once");
	is($node->safe_psql('postgres', 'SELECT last_value FROM begun'), $all + 1, "$name: and each of the others");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM backfill.list_dlq_jobs()'), 0, "$name: and none has failed");
	return cmp_ok($node->safe_psql('postgres', "SELECT n - 1 - $enqueues FROM begun_at"), '<=', 100, "$name: and is the next one");
}

is_next('enqueue_emergency', 0, 'an EMERGENCY job among bulk jobs');
is_next('enqueue_fast', 0, 'a fast job among bulk jobs');
is_next('enqueue_bulk', 10, 'a bulk job among the lowest');

$node->stop;
check_log($node);
done_testing();

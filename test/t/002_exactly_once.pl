# Every committed enqueue runs exactly once: eight clients enqueue at the same time, with
# rollbacks, savepoints, every enqueue function, serial queues and jobs that fail at first.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('once', conf => "backfill.poll_interval = '1h'\n");
create_extension($node);
create_workload($node, 'postgres');

my $bench = start_pgbench(
	$node, 'postgres', q{
\set outcome random(1, 100)
\set kind random(0, 6)
\set savepoint random(1, 100)
BEGIN;
SELECT produce(:kind);
SAVEPOINT one;
SELECT produce(:kind + 1);
\if :savepoint <= 25
ROLLBACK TO SAVEPOINT one;
\elif :savepoint <= 50
SAVEPOINT two;
SELECT produce(:kind + 2);
RELEASE SAVEPOINT two;
ROLLBACK TO SAVEPOINT one;
SELECT produce(:kind + 3);
\else
RELEASE SAVEPOINT one;
\endif
SELECT produce(:kind + 4);
\if :outcome <= 20
ROLLBACK;
\else
COMMIT;
\endif
}, '-c', 8, '-j', 2, '-t', 400);
is(finish_pgbench($bench), 0, 'eight clients enqueue');

is_exactly_once($node, 'postgres', '8 clients');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM intended'),
	'>=', 10_000, 'the clients committed 10,000 jobs at least');
cmp_ok(
	$node->safe_psql('postgres', 'SELECT last_value FROM backfill.job_id_seq'),
	'>',
	$node->safe_psql('postgres', 'SELECT count(*) FROM intended'),
	'the clients rolled back other jobs');
cmp_ok($node->safe_psql('postgres', 'SELECT count(DISTINCT pid) FROM effect'),
	'>=', 2, 'several executors shared the work');
cmp_ok(scalar(log_lines($node, qr/will be retried: a job fails now and then/)),
	'>=', 50, 'jobs failed and were retried');
is( $node->safe_psql(
		'postgres', q{SELECT count(*) FROM effect e JOIN intended i USING (token) GROUP BY kind HAVING count(*) < 100}),
	'',
	'every kind of enqueue took part');

$node->stop;
check_log($node);
done_testing();

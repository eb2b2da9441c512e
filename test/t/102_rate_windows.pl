# The server counts the starts of a bounded number of queues with a rate. Those whose period is over
# make room for others; when none does, health() says so.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('windows', conf => "backfill.max_executors = 0\n");
create_extension($node);
$node->safe_psql('postgres', q{SELECT backfill.register_task('ext')});

# Claims whatever can be claimed, in as many transactions as it takes; returns how many jobs.
sub claim_all
{
	my $n = $node->safe_psql('postgres', q{SELECT count(*) FROM backfill.claim_jobs('me', max_jobs => 200, lease => '1 hour')});
	return $n == 0 ? 0 : $n + claim_all();
}

$node->safe_psql(
	'postgres', q{
	SELECT count(backfill.set_queue('rated ' || n, rate_limit => 5, rate_period => '1 ms')) FROM generate_series(1, 1100) n;
	SELECT count(backfill.enqueue('ext', queue_name => 'rated ' || n)) FROM generate_series(1, 1100) n;
});
is(claim_all(), 1100, 'jobs start in more queues with a short period than are counted at a time');
$node->safe_psql('postgres', q{SELECT backfill.set_queue('another', rate_limit => 1, rate_period => '1 hour'), backfill.enqueue('ext', queue_name => 'another'), backfill.enqueue('ext', queue_name => 'another')});
is(claim_all(), 1, 'jobs of a second set of queues start as their rate allows');
like($node->safe_psql('postgres', q{SELECT status, detail FROM backfill.health() WHERE check_name = 'rate_windows'}), qr/^ok\|$/, 'health() finds nothing');

$node->safe_psql(
	'postgres', q{
	SELECT count(backfill.set_queue('rated ' || n, rate_limit => 5, rate_period => '1 hour')) FROM generate_series(1, 1100) n;
	SELECT count(backfill.enqueue('ext', queue_name => 'rated ' || n)) FROM generate_series(1, 1100) n;
});
is(claim_all(), 1023, 'no more queues with a long period are let in than are counted');
like($node->safe_psql('postgres', q{SELECT status, detail FROM backfill.health() WHERE check_name = 'rate_windows'}), qr/^warning\|.*its jobs wait$/, 'health() says so');

# A priority for each job.
like($node->safe_psql('postgres', q{SELECT status FROM backfill.health() WHERE check_name = 'ranges'}), qr/^ok/, 'a few queues are not worth a word');
$node->safe_psql('postgres', q{SELECT count(backfill.enqueue('ext', priority => n, run_at => now() + '1 day')) FROM generate_series(1, 1100) n});
like($node->safe_psql('postgres', q{SELECT status, detail FROM backfill.health() WHERE check_name = 'ranges'}), qr/^warning\|.*: ext \(1001\)$/, 'more than a thousand are');

# A task for each job.
$node->safe_psql('postgres', q{TRUNCATE backfill.job; SELECT count(backfill.enqueue('task ' || n, run_at => now() + '1 day')) FROM generate_series(1, 1000) n});
like($node->safe_psql('postgres', q{SELECT status FROM backfill.health() WHERE check_name = 'ranges'}), qr/^ok/, 'a thousand tasks are borne');
$node->safe_psql('postgres', q{SELECT count(backfill.enqueue('task ' || n, run_at => now() + '1 day')) FROM generate_series(1001, 1100) n});
like($node->safe_psql('postgres', q{SELECT status, detail FROM backfill.health() WHERE check_name = 'ranges'}), qr/^warning\|.*: task 1 \(1\), task 10 \(1\), .* more$/, 'more are named');

$node->stop;
check_log($node);
done_testing();

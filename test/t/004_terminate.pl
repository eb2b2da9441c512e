# pg_terminate_backend() of the workers, each kind and all of them, in the middle of load:
# they come back at once, no job is lost, and none runs twice. poll_interval is one hour and
# the launcher's own round is once a minute: what ends within half a minute has waited for
# neither.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = preloaded('terminate', conf => "backfill.poll_interval = '1h'\n");
create_extension($node);
create_workload($node, 'postgres');

# First with clients that go on enqueueing, then only with a backlog: then nobody tells the
# workers' successors that there is something to do.
sub terminate
{
	my (@kinds) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for my $clients (4, 0)
	{
		# The postmaster takes a second to start a launcher again.
		wait_for_workers($node, 'launcher', undef, 1, 'there is a launcher');
		my $what = "the end of every " . join(', ', @kinds) . " while $clients clients enqueue";
		produce($node, 'postgres', 800, '{"ms": 2}');
		my $bench = $clients > 0 ? start_workload($node, 'postgres', $clients) : undef;
		running_executor($node, 'postgres');
		my $started = time;
		is( $node->safe_psql(
				'postgres', q{
			WITH w AS MATERIALIZED (SELECT pid, backend_type FROM pg_stat_activity
				WHERE backend_type = ANY ('} . kind_list(@kinds) . q{')),
			t AS MATERIALIZED (SELECT backend_type FROM w WHERE pg_terminate_backend(pid))
			SELECT count(*) > 0, (SELECT count(DISTINCT backend_type) FROM t) FROM backfill.job}),
			't|' . scalar(@kinds),
			"$what: came in the middle of work");
		is(finish_pgbench($bench), 0, "$what: they notice nothing") if $bench;
		is_exactly_once($node, 'postgres', $what);
		cmp_ok(time - $started, '<', 30, "$what: work was resumed at once");
	}
	return;
}

sub kind_list
{
	return '{' . join(',', map { "backfill $_" } @_) . '}';
}

terminate('executor');
terminate('dispatcher');
terminate('launcher');
terminate('launcher', 'dispatcher', 'executor');

wait_for_workers($node, 'launcher', undef, 1, 'there is one launcher');
wait_for_workers($node, 'dispatcher', 'postgres', 1, 'there is one dispatcher');
is($node->safe_psql('postgres', 'SELECT count(*) FROM backfill.workers'),
	$node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^backfill (dis|ex)'}),
	'the view agrees with the processes that there are');

$node->stop;
check_log($node);
done_testing();

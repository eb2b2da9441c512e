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

sub terminate
{
	my ($kind) = @_;
	# The postmaster takes a second to start a launcher again.
	wait_for_workers($node, $kind, undef, '> 0', "there is a running $kind");
	my @pids = worker_pids($node, $kind);
	$node->safe_psql('postgres',
		'SELECT count(pg_terminate_backend(p, 10000)) FROM unnest(ARRAY[' . join(',', @pids) . ']) p');
	return;
}

# First with clients that go on enqueueing, then only with a backlog: then nobody tells the
# workers' successors that there is something to do.
sub disturb
{
	my ($name, @kinds) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for my $clients (4, 0)
	{
		my $what = "$name, $clients clients";
		produce($node, 'postgres', 600, '{"ms": 2}');
		my $bench = $clients > 0 ? start_workload($node, 'postgres', $clients) : undef;
		running_executor($node, 'postgres');
		terminate($_) for @kinds;
		is(finish_pgbench($bench), 0, "$what: they notice nothing") if $bench;
		my $started = time;
		cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM backfill.job'),
			'>', 0, "$what: work is left");
		is_exactly_once($node, 'postgres', $what);
		cmp_ok(time - $started, '<', 30, "$what: which was resumed at once");
	}
	return;
}

disturb("termination of every $_", $_) for ('executor', 'dispatcher', 'launcher');
disturb('termination of all workers', 'launcher', 'dispatcher', 'executor');

wait_for_workers($node, 'launcher', undef, 1, 'there is one launcher');
wait_for_workers($node, 'dispatcher', 'postgres', 1, 'there is one dispatcher');
is($node->safe_psql('postgres', 'SELECT count(*) FROM backfill.workers'),
	$node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^backfill (dis|ex)'}),
	'the view agrees with the processes that there are');

$node->stop;
check_log($node);
done_testing();

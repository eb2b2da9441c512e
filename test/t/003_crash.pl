# The server crashes or stops in the middle of work: no job is lost, none runs twice, and
# work goes on as soon as the server is back. With poll_interval at one hour, and the
# launcher's own round once a minute, work that begins within half a minute has waited for
# no timeout.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('crash', conf => "backfill.poll_interval = '1h'\nrestart_after_crash = on\n");
create_extension($node);
create_workload($node, 'postgres');

# Do it to a server that has a backlog, clients that enqueue, and executors in the middle of
# jobs. Nothing is enqueued afterwards: what is left must be resumed without being told.
sub disturb
{
	my ($name, $disturbance) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $gate = close_gate($node, 'postgres');
	produce($node, 'postgres', 1200, '{"ms": 2}');
	produce($node, 'postgres', 7, '{"gate": true}'); # what no executor gets done before
	my $bench = start_workload($node, 'postgres', 4);
	running_executor($node, 'postgres');
	cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM backfill.job'), '>=', 11, "$name: work is left");
	$disturbance->();
	finish_pgbench($bench);
	open_gate($gate);
	wait_until($node, 'postgres', 'SELECT true', "$name: the server is back");
	is_exactly_once($node, 'postgres', $name);
	is($node->safe_psql('postgres', q{SELECT min(at) - backend_start < '30 s' FROM effect, pg_stat_activity
		WHERE backend_type = 'backfill launcher' AND at > backend_start GROUP BY backend_start}),
		't', "$name: which was resumed at once");
	return;
}

# The server restarts by itself when one of its processes is killed.
sub kill_executor
{
	my $pid = running_executor($node, 'postgres');
	my $position = log_position($node);
	is(kill('KILL', $pid), 1, "executor $pid is killed");
	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $position);
	return;
}

disturb("kill -9 of an executor, round $_", \&kill_executor) for (1, 2);

disturb("immediate shutdown, round $_", sub { $node->stop('immediate'); $node->start; }) for (1, 2);

disturb('fast shutdown', sub { $node->stop('fast'); $node->start; });

$node->stop;
check_log($node, crashes => 1);
is(scalar(log_lines($node, qr/was terminated by signal (?!9:)/)), 0, 'no process crashed by itself');
done_testing();

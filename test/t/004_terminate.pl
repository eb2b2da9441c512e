# pg_terminate_backend() of the workers, each kind and all of them, in the middle of load:
# they come back at once, no job is lost, and none runs twice. poll_interval is one hour and
# the launcher's own round is once a minute: a worker that is back within half a minute has waited
# for neither. How long the work takes then is up to the machine.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('terminate', conf => "backfill.poll_interval = '1h'\n");
create_extension($node);
create_workload($node, 'postgres');

# First with clients that go on enqueueing, then only with a backlog: then no commit tells the
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
		my $gate = close_gate($node, 'postgres');
		produce($node, 'postgres', 1600, '{"ms": 2}');
		produce($node, 'postgres', 7, '{"gate": true}'); # what no executor gets done before
		my $bench = $clients > 0 ? start_workload($node, 'postgres', $clients) : undef;
		running_executor($node, 'postgres');
		my $kinds = kind_list(@kinds);
		my ($came, $old, $when) = split /\|/, $node->safe_psql(
			'postgres', qq{
			WITH w AS MATERIALIZED (SELECT pid, backend_type FROM pg_stat_activity
				WHERE backend_type = ANY ('$kinds')),
			t AS MATERIALIZED (SELECT * FROM w WHERE pg_terminate_backend(pid))
			SELECT (SELECT count(*) > 0 FROM backfill.job) AND (SELECT count(DISTINCT backend_type) FROM t) = cardinality('$kinds'::text[]),
				(SELECT array_agg(pid) FROM t), clock_timestamp()});
		is($came, 't', "$what: came in the middle of work");
		wait_until($node, 'postgres', qq{SELECT count(DISTINCT backend_type) = cardinality('$kinds'::text[]) FROM pg_stat_activity
			WHERE backend_type = ANY ('$kinds') AND pid <> ALL ('$old'::int[])}, "$what: they have successors");
		is($node->safe_psql('postgres', qq{SELECT max(first) < timestamptz '$when' + interval '30 s' FROM (SELECT min(backend_start) AS first FROM pg_stat_activity
			WHERE backend_type = ANY ('$kinds') AND pid <> ALL ('$old'::int[]) GROUP BY backend_type) s}), 't', "$what: at once");
		open_gate($gate);
		is(finish_pgbench($bench), 0, "$what: the clients notice nothing") if $bench;
		is_exactly_once($node, 'postgres', $what);
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
wait_until($node, 'postgres', q{SELECT (SELECT array_agg(pid ORDER BY pid) FROM backfill.workers)
	= (SELECT array_agg(pid ORDER BY pid) FROM pg_stat_activity WHERE backend_type ~ '^backfill (dis|ex)')},
	'the view agrees with the processes that there are');

$node->stop;
check_log($node);
done_testing();

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

# --- A job whose executor other sessions terminate again and again.

$node->safe_psql('postgres', q{
	CREATE FUNCTION stay(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_xact_lock(77) $$;
	SELECT backfill.register_task('stay', 'stay(jsonb)')});
my $holder = $node->background_psql('postgres');
$holder->query_safe('SELECT pg_advisory_lock(77)');
my $id = $node->safe_psql('postgres', q{SELECT backfill.enqueue('stay')});

# An assertion: its executor is terminated. It is the time with this number.
sub terminate_its_executor
{
	my ($times) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until($node, 'postgres', "SELECT count(*) FROM backfill.workers WHERE job_id = $id", "the job runs, time $times", 1);
	$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM backfill.workers WHERE job_id = $id");
	return wait_until($node, 'postgres', "SELECT failures, sqlstate, name FROM backfill._set_aside() WHERE kind = 'job' AND id = $id",
		"its executor is terminated, time $times", "$times|57P01|stay");
}

my $health = q{SELECT status, detail FROM backfill.health() WHERE check_name = 'set_aside'};
terminate_its_executor(1);
is($node->safe_psql('postgres', $health), 'ok|', 'once is no trouble');
terminate_its_executor($_) for 2 .. 5;
# It was not run before the time at which it was to be tried again.
is($node->safe_psql('postgres', "SELECT retry_at - since >= interval '3.1 s' FROM backfill._set_aside() WHERE id = $id"), 't', 'each pause was longer than the last one');
# Executors that go, and a reload, are none of this.
wait_until($node, 'postgres', "SELECT count(*) FROM backfill.workers WHERE job_id = $id", 'the job runs again', 1);
$node->safe_psql('postgres', 'ALTER SYSTEM SET backfill.max_executors = 0');
$node->reload;
wait_until($node, 'postgres', "SELECT count(*) FROM backfill.workers WHERE kind = 'executor' AND job_id IS DISTINCT FROM $id", 'others retire', 0);
terminate_its_executor(6);
like($node->safe_psql('postgres', $health), qr/^warning\|job $id \(stay\) since .*, failed 6 times, .*57P01 process \d+ has terminated its executor/, 'health() names it');
# On a slow machine its time may have come; then it waits for an executor.
like($node->safe_psql('postgres', "SELECT backfill.why_not_running($id), CASE WHEN retry_at < clock_timestamp() THEN 'late' END FROM backfill._set_aside() WHERE id = $id"),
	qr/^(?:set_aside: its executor has been terminated since .*, 6 times; it is tried again at .*|no_executors: .*\|late$)/, 'the job says why it waits');
$holder->query_safe('SELECT pg_advisory_unlock(77)');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET backfill.max_executors');
$node->reload;
wait_until($node, 'postgres', "SELECT count(*) FROM backfill.job WHERE id = $id", 'in the end it is run', 0);
wait_until($node, 'postgres', 'SELECT count(*) FROM backfill._set_aside()', 'and nothing is left of it', 0);

# DROP EXTENSION terminates executors, too, but the jobs go with it.
$holder->query_safe('SELECT pg_advisory_lock(77)');
$id = $node->safe_psql('postgres', q{SELECT backfill.enqueue('stay')});
wait_until($node, 'postgres', "SELECT count(*) FROM backfill.workers WHERE job_id = $id", 'another job runs', 1);
$node->safe_psql('postgres', 'DROP EXTENSION backfill CASCADE; CREATE EXTENSION backfill');
is($node->safe_psql('postgres', 'SELECT count(*) FROM backfill._set_aside()'), 0, 'the new extension knows nothing of it');
$holder->quit;

$node->stop;
check_log($node);
done_testing();

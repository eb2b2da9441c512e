# A dispatcher of an idle database does not look into tables that have not changed, and finds what no
# commit has announced all the same.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('idle', conf => "backfill.poll_interval = '10ms'\n");
$node->{fresh_sessions} = 1; # a session tells of its changes when it ends
$node->safe_psql('postgres', 'CREATE DATABASE busy');
for my $db ('postgres', 'busy')
{
	create_extension($node, $db);
	$node->safe_psql($db, q{
		CREATE FUNCTION polls() RETURNS bigint LANGUAGE sql AS
			$$ SELECT sum(m.value)::bigint FROM backfill.metrics('backfill_worker_polls') m WHERE m.labels->>'worker_kind' = 'dispatcher' $$;
		CREATE TABLE ran (n int);
		CREATE FUNCTION run(payload jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO ran VALUES ((payload->>$$n$$)::int)';
		SELECT backfill.register_task('run', 'run(jsonb)');
		-- What changes the table without a word to the workers; it needs no job to run.
		CREATE FUNCTION touch() RETURNS void LANGUAGE sql AS
			$$ UPDATE backfill.job SET payload = payload WHERE task_identifier = 'unregistered' $$});
}

$node->safe_psql('busy', q{SELECT backfill.enqueue('unregistered')});

# While the other database's dispatcher takes a number of passes, this one's takes how many?
sub passes_beside
{
	my ($number) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($before, $other) = ($node->safe_psql('postgres', 'SELECT polls()'), $node->safe_psql('busy', 'SELECT polls()'));
	wait_until($node, 'busy', "SELECT polls() >= $other + $number FROM touch()", 'the table changes: its dispatcher takes passes');
	return $node->safe_psql('postgres', 'SELECT polls()') - $before;
}

# Sessions tell of their changes late: only after that the database is idle.
try_until('the dispatcher of an idle database rests', sub { my $passes = passes_beside(20); return ($passes <= 1, $passes) });
$node->safe_psql('postgres', q{SELECT backfill.schedule('yearly', '@yearly', 'run')});
try_until('also if a schedule is due in some months', sub { my $passes = passes_beside(20); return ($passes <= 1, $passes) });

# Rows of another session, as a restore or a subscription makes them.
sub insert_silently
{
	my ($n) = @_;
	$node->safe_psql('postgres', qq{
		INSERT INTO backfill.job (task_identifier, payload, priority, max_attempts, created_at, run_at, queue_name, attempts, free_retries)
		SELECT 'run', jsonb_build_object('n', $n), 0, 3, now(), now() - interval '1 minute', 'bulk', 0, 0});
	return;
}
insert_silently(1);
wait_until($node, 'postgres', 'SELECT count(*) = 1 FROM ran', 'a row that no commit announced is found');
try_until('it rests again', sub { my $passes = passes_beside(20); return ($passes <= 1, $passes) });
$node->safe_psql('postgres', q{SELECT backfill.enqueue('run', '{"n": 2}', run_at => now() + interval '1 s')});
wait_until($node, 'postgres', 'SELECT count(*) = 2 FROM ran', 'a job becomes due');
$node->safe_psql('postgres', q{SELECT backfill.enqueue('run', '{"n": 3}')});
wait_until($node, 'postgres', 'SELECT count(*) = 3 FROM ran', 'a job is announced');

# A reload is no change of the table: executors that are too many now must end nevertheless, long before the pass
# that there is once a minute.
wait_until($node, 'postgres', q{SELECT count(*) > 0 FROM backfill.workers WHERE kind = 'executor'}, 'there is an executor');
try_until('and the dispatcher rests', sub { my $passes = passes_beside(20); return ($passes <= 1, $passes) });
set_and_reload($node, 'backfill.max_executors', 0);
my $executors;
my $limit = $node->safe_psql('busy', 'SELECT polls() + 100');
try_until('the executors end, or the other dispatcher has taken a hundred passes', sub {
	my $passes = $node->safe_psql('busy', 'SELECT polls() FROM touch()');
	$executors = $node->safe_psql('postgres', q{SELECT count(*) FROM backfill.workers WHERE kind = 'executor'});
	return ($executors == 0 || $passes >= $limit, $executors);
});
is($executors, 0, 'the executors end when the setting says so');
set_and_reload($node, 'backfill.max_executors', 4);

set_and_reload($node, 'track_counts', 'off');
my $polls = $node->safe_psql('postgres', 'SELECT polls()');
wait_until($node, 'postgres', "SELECT polls() > $polls + 20", 'a server that counts no changes: it sweeps as ever');
insert_silently(4);
wait_until($node, 'postgres', 'SELECT count(*) = 4 FROM ran', '... and finds what is there');
check_log($node);
done_testing();

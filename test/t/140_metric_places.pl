# Places for label sets of metrics: any producer can use them up, by names of queues and tasks. They
# are given back, and what they have counted stays in the sums.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('places',
	conf => "backfill.max_executors = 0\nbackfill.metrics_max_label_sets = 4\nbackfill.metrics_idle_time = 0\n");
create_extension($node);

# queue=count of each label set
sub counted
{
	my ($database) = @_;
	return $node->safe_psql($database // 'postgres', q{
		SELECT string_agg(labels->>'queue' || '=' || value, ' ' ORDER BY labels->>'queue' COLLATE "C")
		  FROM backfill.metrics('backfill_jobs_enqueued')});
}

sub enqueue
{
	my (@queues) = @_;
	$node->safe_psql('postgres', "SELECT backfill.enqueue('t', queue_name => '$_')") for @queues;
	return;
}

sub health { return $node->safe_psql('postgres', q{SELECT status FROM backfill.health() WHERE check_name = 'metrics_labels'}); }

# --- The one that was not used for the longest time makes room.
enqueue(qw(a b c d));
is(counted(), 'a=1 b=1 c=1 d=1', 'all places are in use');
is(health(), 'ok', 'the places are enough');
enqueue(qw(a e));
is(counted(), 'a=2 c=1 d=1 e=1 other=1', 'the least recently used one has made room, and its count has moved');
is(health(), 'warning', 'health() says that places are short');
enqueue('b');
is(counted(), 'a=2 b=1 d=1 e=1 other=2', 'what comes back begins at zero');

# --- A session that knows a place keeps it neither, nor counts for the one that has it now.
my $session = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe(q{SELECT backfill.enqueue('t', queue_name => 'a')});
$session->query_safe(q{BEGIN; SELECT backfill.enqueue('t', queue_name => 'a') FROM generate_series(1, 10)});
enqueue(qw(w x y z));
is(counted(), 'other=8 w=1 x=1 y=1 z=1', 'all places have changed hands while a transaction counts');
$session->query_safe('COMMIT');
is(counted(), 'other=18 w=1 x=1 y=1 z=1', 'what it has counted is not lost, and no other label set has it');
$session->query_safe(q{SELECT backfill.enqueue('t', queue_name => 'a')});
is(counted(), 'a=1 other=19 x=1 y=1 z=1', 'the session of the transaction finds a place again');

# --- Within the time, no label set makes room; what found no room is counted together.
$node->append_conf('postgresql.conf', "backfill.metrics_idle_time = '1h'");
$node->reload;
wait_until($node, 'postgres', 'SHOW backfill.metrics_idle_time', 'the setting is read', '1h');
enqueue(qw(p q));
is(counted(), 'a=1 other=21 x=1 y=1 z=1', 'no label set makes room for what comes within the time');

# --- Queues and tasks that are gone.
$node->safe_psql('postgres', q{SELECT backfill.set_queue('x', concurrency => 1); DELETE FROM backfill.job WHERE queue_name = 'x'; SELECT backfill.delete_queue('x')});
is(counted(), 'a=1 other=22 y=1 z=1', 'a deleted queue gives its place back');
is(health(), 'ok', 'after a deleted queue there is room');
enqueue('p');
is(counted(), 'a=1 other=22 p=1 y=1 z=1', 'another label set gets the deleted queue\'s place');
$node->safe_psql('postgres', q{SELECT backfill.register_task('t'); SELECT backfill.unregister_task('t')});
is(counted(), 'other=26', 'a task that is gone gives its places back');

# --- Databases share: one that has less than its share takes places from the one that has the most,
# busy or not, and a dropped one gives all of its back.
enqueue(qw(a b c d));
$node->safe_psql('postgres', 'CREATE DATABASE second');
create_extension($node, 'second');
$node->safe_psql('second', "SELECT backfill.enqueue('t', queue_name => '$_')") for qw(k l m);
is(counted('second'), 'k=1 l=1 other=1', 'a second database gets its half of the places');
is(counted(), 'c=1 d=1 other=28', 'the first database keeps its half');
enqueue(qw(a b));
is(counted(), 'c=1 d=1 other=30', 'the first database cannot win back more than its half');
is(counted('second'), 'k=1 l=1 other=1', 'from the second');
$node->safe_psql('postgres', 'DROP DATABASE second');
enqueue(qw(a b));
is(counted(), 'a=1 b=1 c=1 d=1 other=30', 'a dropped database gives its places back');
$session->quit;

# --- Many sessions, each with names of its own, take each other's places all the time.
$node->append_conf('postgresql.conf', 'backfill.metrics_idle_time = 0');
$node->reload;
wait_until($node, 'postgres', 'SHOW backfill.metrics_idle_time', 'the setting is read again', '0');
my $before = $node->safe_psql('postgres', q{SELECT sum(value) FROM backfill.metrics('backfill_jobs_enqueued')});
is(finish_pgbench(start_pgbench($node, 'postgres', q{
\set n random(1, 9)
SELECT backfill.enqueue('t', queue_name => 'q' || :n);
}, '-c', 4, '-t', 300)), 0, 'four producers take places from each other');
wait_until($node, 'postgres', "SELECT sum(value) - $before FROM backfill.metrics('backfill_jobs_enqueued')", 'every job is counted once', '1200');
is($node->safe_psql('postgres', q{SELECT count(*) FROM backfill.metrics('backfill_jobs_enqueued') WHERE labels->>'queue' <> 'other'}), 4, 'no place is lost when four producers take them from each other');

$node->stop;
check_log($node);
done_testing();

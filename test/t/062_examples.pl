# The consumers of examples/, in four languages: each does its work, fails and is retried, keeps its
# leases, ends in an orderly way, and survives what happens to the server; and when it is killed, another
# one takes over. Without executors, and without polling: poll_interval and the consumers' own
# fallback are one hour.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use Consumers;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('examples', conf => "backfill.poll_interval = '1h'\nbackfill.max_executors = 0\nmax_connections = 60\n");
create_extension($node);
sub sql { return $node->safe_psql('postgres', $_[0]); }
build_consumers() or BAIL_OUT('see test/lib/setup.sh test');
create_examples($node);
sql(q{SELECT backfill.set_retry_policy('quick', 3, '1 ms', '20 ms', 2, 0.5)});
sql(q{SELECT backfill.register_task(t, max_attempts => 3, retry_policy => 'quick') FROM unnest('{count_words,shout}'::text[]) t});

# Enqueues a job, or several in one commit; returns their ids.
sub enqueue
{
	my ($payload, $task, $count) = @_;
	$task //= 'count_words';
	$count //= 1;
	return split /\n/, sql(qq{SELECT backfill.enqueue('$task', '$payload') FROM generate_series(1, $count)});
}

# An assertion: jobs come to have a result. A dead letter shows that they never will.
sub is_done
{
	my ($ids, $result, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @ids = ref $ids ? @$ids : $ids;
	my $list = join ', ', @ids;
	return wait_until($node, 'postgres', qq{
		SELECT string_agg(coalesce(result, 'dead: ' || failure_reason, 'nothing yet'), ', ' ORDER BY wanted)
		  FROM unnest(ARRAY[$list]::bigint[]) jobs (wanted)
		  LEFT JOIN examples.result ON job_id = wanted
		  LEFT JOIN backfill.dlq ON original_job_id = wanted},
		$name, join(', ', ($result) x @ids), unless => qr/dead: /);
}

sub is_state
{
	my ($id, $state, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, 'postgres', "SELECT state FROM backfill.jobs WHERE id = $id", $name, $state);
}

sub times_begun
{
	my ($consumer, $id) = @_;
	my @begun = consumer_log($consumer) =~ /job $id: begins/g;
	return scalar @begun;
}

# Ends the lease of a job, so that the test need not wait for that; its consumer cannot prolong it any
# more. Its next run is a short one.
sub end_lease
{
	my ($id) = @_;
	return sql(qq{UPDATE backfill.job SET payload = payload - 'seconds' WHERE id = $id;
		SELECT backfill.heartbeat(claim_token, '1 ms') FROM backfill.job WHERE id = $id});
}

# Three jobs at a time, with leases that no busy machine lets run out.
sub start
{
	my ($language, %settings) = @_;
	return start_consumer($node, $language, CONCURRENCY => 3, LEASE => 60, GRACE => 60, FALLBACK => 3600, %settings);
}

for my $l ($ENV{EXAMPLES} ? split(/ /, $ENV{EXAMPLES}) : qw(bash cpp node python))
{
	my $one = start($l);

	# --- Work.
	my @ids = map { enqueue(qq{{"text": "${\ join ' ', ('word') x $_}"}}) } (1 .. 10);
	is_done($ids[$_], $_ + 1, "$l: job $_") for (0 .. 9);
	is_done(enqueue(q({"text": "it''s a \\"quote\\""}), 'shout'), q{IT'S A "QUOTE"}, "$l: another task");
	is(sql(q{SELECT count(*) FROM backfill.job}), 0, "$l: the jobs are gone");

	wait_until($node, 'postgres', qq{SELECT max(query_start) < clock_timestamp() - interval '2500 ms' FROM pg_stat_activity
		WHERE application_name = '$one->{name}'}, "$l: it does nothing while there is nothing to do");

	@ids = enqueue('{"text": "", "seconds": 4}', 'count_words', 6);
	wait_until($node, 'postgres', q{SELECT string_agg(state, ' ' ORDER BY state) FROM backfill.jobs}, "$l: three at a time", 'leased leased leased ready ready ready');
	is_done(\@ids, 0, "$l: and all in the end");

	# --- Failures.
	my ($id) = enqueue('{"text": "a b", "fails": 2}');
	is_done($id, 2, "$l: what fails twice is done in the end");
	is(times_begun($one, $id), 3, "$l: at the third attempt");
	like(consumer_log($one), qr/job $id: failed \(retry\): connection reset by peer/, "$l: which it was told");
	($id) = enqueue('{"text": "a b", "fails": 9}');
	wait_until($node, 'postgres', qq{SELECT failure_count || ' ' || (last_error->>'message') FROM backfill.dlq WHERE original_job_id = $id}, "$l: what always fails becomes a dead letter", '3 connection reset by peer');
	my ($permanent) = enqueue('{}');
	wait_until($node, 'postgres', qq{SELECT failure_count || ' ' || (last_error->>'message') FROM backfill.dlq WHERE original_job_id = $permanent}, "$l: what can never succeed does at once", '1 the payload has no text');
	wait_for_consumer_log($one, qr/job $permanent: failed \(dead\)/, "$l: which it was told");
	# On a busy machine it may come to the consumer when it need not be put off any more.
	for my $seconds (2, 10, 60)
	{
		$id = sql(qq{SELECT backfill.enqueue('count_words', jsonb_build_object('text', 'a', 'busy_until', extract(epoch FROM clock_timestamp()) + $seconds))});
		is_done($id, 1, "$l: what is put off is done");
		last if consumer_log($one) =~ /job $id: snoozed/;
	}
	like(consumer_log($one), qr/job $id: begins count_words, attempt 1.*job $id: snoozed.*job $id: begins count_words, attempt 1/s, "$l: and has cost no attempt");

	# What no program expects, and arithmetic in bash must not get to see.
	enqueue(q({"text": "a", "seconds": "no", "fails": "x[$(kill $PPID)]", "busy_until": []}));
	enqueue($_) for ('[]', 'null', '"text"', '{"text": [1]}');
	wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', "$l: payloads without sense come to an end, too");
	is_done(enqueue('{"text": "a"}'), 1, "$l: and others are done");

	# --- The server goes away.
	($id) = enqueue('{"text": "a", "seconds": 3}');
	is_state($id, 'leased', "$l: a job during a restart");
	$node->restart;
	is_done($id, 1, "$l: is done");
	is(times_begun($one, $id), 1, "$l: at the first attempt");
	is_done(enqueue('{"text": "a"}'), 1, "$l: and so is a job after it");
	$node->stop('immediate');
	$node->start;
	is_done(enqueue('{"text": "a"}'), 1, "$l: and one after a crash");
	sql(qq{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '$one->{name}'});
	is_done(enqueue('{"text": "a"}'), 1, "$l: and one after its sessions were ended");
	ok(!has_ended($one), "$l: it still lives");

	# --- Leases, of six seconds; heartbeats come every two.
	is(end_consumer($one), 0, "$l: it ends");
	$one = start($l, LEASE => 6);
	($id) = enqueue('{"text": "a", "seconds": 8}');
	is_done($id, 1, "$l: a job longer than its lease is done");
	is(times_begun($one, $id), 1, "$l: at the first attempt, thanks to heartbeats");
	($id) = enqueue('{"text": "a", "seconds": 100}');
	is_state($id, 'leased', "$l: a job that is taken away");
	sql(qq{BEGIN; SELECT backfill.force_unlock_workers('{$one->{name}}'); SELECT backfill.cancel_job($id); COMMIT});
	wait_for_consumer_log($one, qr/job $id: dropped/, "$l: is dropped at the next heartbeat");

	($id) = enqueue('{"text": "a", "seconds": 100}');
	wait_for_consumer_log($one, qr/job $id: begins/, "$l: a job is begun");
	kill('STOP', $one->{pid});
	end_lease($id);
	wait_until($node, 'postgres', "SELECT attempts FROM backfill.jobs WHERE id = $id AND state = 'ready'", "$l: its consumer is stopped, and its lease runs out", 1);
	kill('CONT', $one->{pid});
	is_done($id, 1, "$l: it goes on, and the job is done");
	wait_for_consumer_log($one, qr/job $id: (dropped|was not ours any more)/, "$l: but not under the old claim");
	wait_for_consumer_log($one, qr/job $id: completed/, "$l: it is completed");
	is(() = consumer_log($one) =~ /job $id: completed/g, 1, "$l: it is completed once");

	# --- It dies, and another one is told.
	my $two = start($l);
	wait_until($node, 'postgres', qq{SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = '$two->{name}'}, "$l: another consumer");
	($id) = enqueue('{"text": "a", "seconds": 100}');
	is_state($id, 'leased', "$l: one of them has a job");
	my $worker = sql("SELECT worker FROM backfill.jobs WHERE id = $id");
	my ($killed, $heir) = $worker eq $one->{name} ? ($one, $two) : ($two, $one);
	wait_for_consumer_log($killed, qr/job $id: begins/, "$l: and begins it");
	kill_consumer($killed);
	end_lease($id);
	is_done($id, 1, "$l: it is killed, and the job done");
	is(sql("SELECT worker FROM examples.result WHERE job_id = $id"), $heir->{name}, "$l: by the other");
	like(consumer_log($heir), qr/job $id: begins count_words, attempt 2/, "$l: as a second attempt");

	# --- It is asked to end.
	@ids = enqueue('{"text": "a", "seconds": 5}', 'count_words', 5);
	wait_until($node, 'postgres', q{SELECT count(*) = 3 FROM backfill.jobs WHERE state = 'leased'}, "$l: three jobs run");
	is(end_consumer($heir), 0, "$l: asked to end, it ends well");
	is(sql(q{SELECT string_agg(state || attempts, ' ') FROM backfill.jobs}), 'ready0 ready0', "$l: what it had begun is done, it began nothing else");
	sql('DELETE FROM backfill.job');

	my $three = start($l, GRACE => 1);
	($id) = enqueue('{"text": "a", "seconds": 100}');
	wait_for_consumer_log($three, qr/job $id: begins/, "$l: a job that is too long");
	is(end_consumer($three, 'INT'), 0, "$l: asked to end, it ends well");
	is(sql(qq{SELECT state, attempts, worker IS NULL FROM backfill.jobs WHERE id = $id}), 'ready|0|t', "$l: and gives the job back");
	like(consumer_log($three), qr/job $id: released/, "$l: which it says");
	sql('DELETE FROM backfill.job');

	my $four = start($l, PGDATABASE => 'postgres', GRACE => 1);
	wait_until($node, 'postgres', qq{SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = '$four->{name}'}, "$l: one more");
	$node->stop('fast');
	wait_for_consumer_log($four, qr/server|connect/, "$l: it has lost the server");
	is(end_consumer($four), 0, "$l: and can be asked to end all the same");
	$node->start;
}

$node->stop;
check_log($node);
done_testing();

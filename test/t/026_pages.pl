# Pages while jobs run: the running ones, their workers and how far they are, in list_jobs(), job_details(), queue_details()
# and overview(); also behind very many that wait, where a search does not look at all of them.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use Test::More;

my $node = preloaded('pages', conf => "backfill.poll_interval = '50ms'\nbackfill.max_executors = 4\n");
create_extension($node);
$node->safe_psql('postgres', q{
	CREATE FUNCTION step(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM backfill.set_progress(0.5, 'half');
		PERFORM pg_advisory_xact_lock_shared(1);
		IF payload ? 'fail' THEN RAISE 'no luck'; END IF;
	END $$;
	CREATE PROCEDURE slow(payload jsonb) LANGUAGE plpgsql AS $$
	BEGIN
		COMMIT;
		PERFORM pg_advisory_xact_lock_shared(1);
	END $$;
	SELECT backfill.set_retry_policy('slow', 3, '1 h', '1 h', 1, 0);
	SELECT backfill.register_task('step', 'step(jsonb)', queue_name => 'q', retry_policy => 'slow', keep_history => '1 day'),
	       backfill.register_task('slow', 'slow(jsonb)')});
my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(1)');

# What a page shows must be the same as what the view shows, while nothing changes.
my $running_jobs = q{SELECT string_agg(j ->> 'id', ' ') FROM jsonb_array_elements(backfill.list_jobs(state => 'running') -> 'jobs') j};

my ($first, $second, $procedure) = split /\n/,
  $node->safe_psql('postgres', q{SELECT backfill.enqueue('step', '{"fail": 1}'); SELECT backfill.enqueue('step'); SELECT backfill.enqueue('slow')});
wait_until($node, 'postgres', q{SELECT count(*) = 3 FROM backfill.jobs WHERE state = 'running'}, 'three jobs run');
is($node->safe_psql('postgres', $running_jobs), "$procedure $second $first", 'list_jobs() finds the running ones, the newest first');
is($node->safe_psql('postgres', q{SELECT j -> 'total', j -> 'next', j -> 'cut_off' FROM backfill.list_jobs(state => 'running') j}),
	'{"count": 3, "capped": false}|null|false', 'and knows that these are all');
is($node->safe_psql('postgres', q{SELECT backfill.overview() #> '{jobs,running}', backfill.overview() #> '{jobs,ready,count}', backfill.queue_details('q') -> 'running', backfill.queue_details('q') #> '{ready,count}'}),
	'3|0|2|0', 'overview() and queue_details() count them as running, and not as ready');
is($node->safe_psql('postgres', q{SELECT count(*) FROM jsonb_array_elements(backfill.overview() -> 'workers') w WHERE w ->> 'kind' = 'executor' AND w ->> 'state' = 'busy'}), 3, 'overview() has their workers');
is($node->safe_psql('postgres', qq{SELECT d -> 'state', d #> '{job,progress}', d #> '{job,progress_message}', d #>> '{job,worker}' ~ '^executor [0-9]+\$', left(d ->> 'why', 8),
		jsonb_path_query_array(d, '\$.timeline[*].event') FROM backfill.job_details($first) d}),
	'"running"|0.5|"half"|t|running:|["created", "started"]', 'job_details() shows how far it is, its worker and when it began');

# Behind many that wait, no search looks at all.
$node->safe_psql('postgres', q{
	SELECT backfill.pause_queue('q');
	INSERT INTO backfill.job (run_at, created_at, priority, attempts, max_attempts, free_retries, task_identifier, queue_name, payload)
	SELECT now(), now(), 0, 0, 3, 0, 'step', 'q', '{}' FROM generate_series(1, 12000)});
is($node->safe_psql('postgres', $running_jobs), "$procedure $second $first", 'list_jobs() finds the running ones among very many that wait');
is($node->safe_psql('postgres', q{SELECT j -> 'total', j -> 'next', j -> 'cut_off' FROM backfill.list_jobs(state => 'running') j}),
	'{"count": 3, "capped": true}|null|true', 'and says that it has not looked at all');
is($node->safe_psql('postgres', q{SELECT backfill.overview() #> '{jobs,running}', backfill.overview() #> '{jobs,ready}'}), '3|{"count": 10000, "capped": true}', 'overview() counts as many as there are busy executors');

# They end, one with an error.
$gate->query_safe('SELECT pg_advisory_unlock(1)');
wait_until($node, 'postgres', q{SELECT count(*) = 0 FROM backfill.jobs WHERE state = 'running'}, 'they have ended');
is($node->safe_psql('postgres', qq{SELECT d -> 'state', d #> '{job,attempts}', d -> 'history', jsonb_path_query_array(d, '\$.timeline[*].event'), d #> '{timeline,1,error,message}' FROM backfill.job_details($first) d}),
	'"scheduled"|1|null|["created", "attempt_failed", "next_run"]|"no luck"', 'the one that failed runs again, later');
is($node->safe_psql('postgres', qq{SELECT d -> 'state', d -> 'job', d #> '{history,outcome}', jsonb_path_query_array(d, '\$.timeline[*].event') FROM backfill.job_details($second) d}),
	'"ended"|null|"completed"|["created", "started", "ended"]', 'the other has a history');
is($node->safe_psql('postgres', qq{SELECT backfill.job_details($procedure) IS NULL}), 't', 'nothing is known of a job of a task without one');
is($node->safe_psql('postgres', q{SELECT o #>> '{counters,completed}', o #>> '{counters,retried}', (SELECT sum(n::int) FROM jsonb_array_elements_text(o #> '{run,counts}') n),
		jsonb_array_length(o #> '{run,counts}') = jsonb_array_length(o #> '{run,bounds}') + 1 FROM backfill.overview() o}),
	'2|1|3|t', 'overview() counts what was done, and how long it took, in buckets that add up');
$gate->quit;
check_log($node);
done_testing();

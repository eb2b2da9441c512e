# Workers follow backfill.fake_now: retries, scheduled jobs, leases, schedules and retention of days,
# tested without waiting for them. With poll_interval at one hour nothing is found by chance.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('fake_now', conf => "backfill.poll_interval = '1h'\nbackfill.dlq_processor_interval = '1d'\nbackfill.cron_clock = 'external'\ntimezone = 'UTC'\n");
create_extension($node);

sub sql { my ($query) = @_; return $node->safe_psql('postgres', $query); }

# Sets the clock of the whole server; the workers hear of it by themselves.
sub set_clock
{
	my ($time) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET backfill.fake_now = '$time'");
	$node->reload;
	$node->poll_query_until('postgres', "SELECT current_setting('backfill.fake_now') = '$time'") or die;
	return;
}

sql(<<'SQL');
CREATE TABLE effect (id bigint GENERATED ALWAYS AS IDENTITY, what text, at timestamptz DEFAULT backfill._now());
CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO effect (what) VALUES (payload->>'what') $$;
CREATE FUNCTION fail(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
SELECT backfill.set_retry_policy('slow', 3, '1 day', '10 days', 2, 0);
SELECT backfill.register_task('note', 'note(jsonb)'), backfill.register_task('fail', 'fail(jsonb)', retry_policy => 'slow');
SQL

# A job that is due in a year of another century.
set_clock('2090-01-01 00:00+00');
sql(q{SELECT backfill.enqueue('note', '{"what": "now"}'), backfill.enqueue('note', '{"what": "later"}', run_at => '2090-06-01'), backfill.enqueue('fail')});
wait_until($node, 'postgres', q{SELECT string_agg(what || ' ' || at::date, ', ') FROM effect}, 'what is due runs', 'now 2090-01-01');
wait_until($node, 'postgres', q{SELECT run_at FROM backfill.jobs WHERE task_identifier = 'fail' AND attempts = 1}, 'a retry is due after its day', '2090-01-02 00:00:00+00');
set_clock('2090-01-02 00:00+00');
wait_until($node, 'postgres', q{SELECT run_at FROM backfill.jobs WHERE task_identifier = 'fail' AND attempts = 2}, 'a day later it runs, and then after two', '2090-01-04 00:00:00+00');
set_clock('2090-01-04 00:00+00');
wait_until($node, 'postgres', q{SELECT failed_at FROM backfill.dlq}, 'two days later it is dead', '2090-01-04 00:00:00+00');
set_clock('2090-05-31 23:59:59+00');
is(sql(q{SELECT state FROM backfill.jobs}), 'scheduled', 'in May the other job still waits');
set_clock('2090-06-01 00:00+00');
wait_until($node, 'postgres', q{SELECT string_agg(what || ' ' || at::date, ', ' ORDER BY id) FROM effect}, 'in June it runs', 'now 2090-01-01, later 2090-06-01');

# A lease of an hour: the dispatcher ends it.
sql(q{SELECT backfill.enqueue('mail')});
sql(q{SELECT backfill.claim_jobs('consumer', tasks => '{mail}', lease => '1 hour')});
set_clock('2090-06-01 00:59:59+00');
is(sql(q{SELECT state FROM backfill.jobs}), 'leased', 'a lease that is not over');
set_clock('2090-06-01 01:00+00');
wait_until($node, 'postgres', q{SELECT state || ' ' || attempts || ' ' || (worker IS NULL) FROM backfill.jobs}, 'and that is', 'ready 1 true');
wait_until($node, 'postgres', q{SELECT last_error->>'sqlstate' FROM backfill.jobs}, 'the consumer was lost', 'JB005');
sql('SELECT backfill.cancel_job(id) FROM backfill.jobs');

# A queue with a rate: the rest of its jobs runs hours later.
sql(q{SELECT backfill.set_queue('rare', rate_limit => 1, rate_period => '1 hour'); TRUNCATE effect;
	SELECT backfill.enqueue('note', jsonb_build_object('what', i), queue_name => 'rare') FROM generate_series(1, 3) i});
wait_until($node, 'postgres', 'SELECT count(*) FROM effect', 'one job of a queue for one in an hour', 1);
my $runs = 1;
for my $time ('02:15', '03:30')
{
	set_clock("2090-06-01 $time+00");
	wait_until($node, 'postgres', 'SELECT count(*) FROM effect', "another one at $time", ++$runs);
}

# Schedules: the test calls the tick, which looks at this clock.
sql(q{TRUNCATE effect; SELECT backfill.schedule('hourly', '0 * * * *', 'note', '{"what": "hour"}', fill => '1 day')});
is(sql('SELECT backfill.cron_tick()'), 0, 'nothing is due at half past');
set_clock('2090-06-01 06:00+00');
is(sql('SELECT backfill.cron_tick()'), 3, 'three hours are');
wait_until($node, 'postgres', q{SELECT count(*) FROM effect WHERE what = 'hour'}, 'and their jobs run', 3);
sql(q{SELECT backfill.unschedule('hourly')});

# Retention: the letter of January.
is(sql('SELECT count(*) FROM backfill.dlq'), 1, 'the letter is there');
$node->append_conf('postgresql.conf', "backfill.dlq_retention = '365d'");
set_clock('2091-01-03 23:59:59+00');
wait_until($node, 'postgres', q{SELECT backfill.enqueue('note', '{"what": "2091"}') > 0}, 'a year later');
wait_until($node, 'postgres', q{SELECT count(*) FROM effect WHERE what = '2091'}, 'the workers have the new time', 1);
is(sql('SELECT count(*) FROM backfill.dlq'), 1, 'its year is not over');
set_clock('2091-01-04 00:00:01+00');
wait_until($node, 'postgres', 'SELECT count(*) FROM backfill.dlq', 'now it is, and the dispatcher deletes it', 0);

# Durations are real.
is(sql(q{SELECT count(*) FROM backfill.metrics('backfill_jobs_duration') WHERE sum NOT BETWEEN 0 AND 60}), 0, 'durations are measured by the real clock');
is(sql(q{SELECT bool_and(started_at BETWEEN now() - interval '1 hour' AND now()) FROM backfill.workers}), 't', 'the life of workers is measured by the real clock');

# Back to the present.
sql(q{TRUNCATE effect; SELECT backfill.enqueue('note', '{"what": "of the future"}', run_at => '2091-01-05')});
$node->safe_psql('postgres', 'ALTER SYSTEM RESET backfill.fake_now');
$node->reload;
$node->poll_query_until('postgres', "SELECT current_setting('backfill.fake_now') = ''") or die;
sql(q{SELECT backfill.enqueue('note', '{"what": "present"}'), backfill.enqueue('note', '{"what": "soon"}', run_at => now() + interval '500 ms'),
	backfill.enqueue('note', '{"what": "rare"}', queue_name => 'rare')});
wait_until($node, 'postgres', q{SELECT string_agg(what, ', ' ORDER BY what) FROM effect}, 'the real clock, with its timers, goes on', 'present, rare, soon');
is(sql(q{SELECT string_agg(payload->>'what', ', ' ORDER BY id) FROM backfill.jobs}), 'of the future', 'the real rate knows nothing of the starts by a fake clock');

# A value that is none does not stop the server.
$node->append_conf('postgresql.conf', "backfill.fake_now = 'soon'");
my $position = log_position($node);
$node->reload;
$node->wait_for_log(qr/invalid value for parameter "backfill.fake_now": "soon"/, $position);
is(sql('SHOW backfill.fake_now'), '', 'a wrong value is refused');

$node->stop;
check_log($node);
done_testing();

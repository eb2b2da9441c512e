# Schedules with the real pg_cron as the clock, many sessions that tick at once, and servers
# that die in between. Where hours have to pass, they pass as the argument of _cron_tick() or by
# backfill.fake_now; pg_cron itself needs a real minute, which two servers wait for together, and the
# dispatcher, which takes over in the end, another one. (More about the dispatcher: 134_dispatcher_clock.)
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = q{
shared_preload_libraries = 'backfill, pg_cron'
cron.use_background_workers = on
backfill.max_executors = 1
};
my $node = new_server('schedules', conf => $conf);
$node->start;
create_extension($node);

sub sql { my ($query, $db) = @_; return $node->safe_psql($db // 'postgres', $query); }

sub error_of
{
	my ($db, $query) = @_;
	my ($code, $out, $err) = $node->psql($db, "\\set VERBOSITY verbose\n$query");
	return $err;
}
sub set_mode
{
	my ($mode) = @_;
	sql("ALTER SYSTEM SET backfill.cron_clock = '$mode'");
	$node->reload;
	return $node->poll_query_until('postgres', "SELECT current_setting('backfill.cron_clock') = '$mode'") || die;
}
my $clock = q{SELECT count(*) FROM cron.job WHERE command = 'SELECT backfill.cron_tick()' AND database = current_database()};

#
# The clock is started by the first schedule and stopped with the last one.
#
set_mode('pg_cron');
my $error = error_of('postgres', q{SELECT backfill.schedule('s', '* * * * *', 't')});
like($error, qr/55000: backfill.cron_clock is pg_cron, which is not available/, 'schedule() without the extension pg_cron is an error, if that has to be the clock');
like($error, qr/HINT:  Run CREATE EXTENSION pg_cron\./, 'the error without pg_cron says what to do');
set_mode('auto');
sql('CREATE EXTENSION pg_cron');
is(sql('SELECT count(*) FROM backfill.schedules'), 0, 'the failed schedule() leaves nothing half-done');

sql(q{BEGIN; SELECT backfill.schedule('s', '@yearly', 't'); ROLLBACK});
is(sql($clock), 0, 'a rollback takes the clock back, too');
sql(q{SELECT backfill.schedule('s', '@yearly', 't'), backfill.schedule('s', '@monthly', 't')});
sql(q{SELECT backfill.schedule_crontab(E'0 0 1 1 * a\n0 0 2 1 * b')});
is(sql($clock), 1, 'one job of pg_cron serves all schedules');
is(sql(q{SELECT schedule, jobname, active FROM cron.job}), '* * * * *|backfill.cron_tick()|t', 'the clock ticks once a minute');
sql(q{UPDATE cron.job SET active = false; SELECT backfill.schedule('s', '@yearly', 't')});
is(sql(q{SELECT active FROM cron.job}), 'f', 'a clock that an operator paused stays paused');
sql(q{SELECT backfill.unschedule('a'), backfill.unschedule('b')});
is(sql($clock), 1, 'the clock goes on while there is a schedule');
is(sql(q{SELECT backfill.unschedule('s'), backfill.unschedule('s')}), 't|f', 'unschedule() removes the last schedule');
is(sql($clock), 0, 'the clock goes with the last schedule');

# DROP EXTENSION also drops the clock, and nothing else; a rollback brings both back.
sql(q{SELECT cron.schedule('backfill', '0 0 1 1 *', 'SELECT 1')});
sql(q{SELECT backfill.schedule('s', '@yearly', 't')});
sql('BEGIN; DROP EXTENSION backfill; ROLLBACK');
is(sql($clock), 1, 'DROP EXTENSION, rolled back: the clock is there');
isnt(error_of('postgres', 'CREATE VIEW v AS TABLE backfill.jobs; DROP EXTENSION backfill'), '', 'DROP EXTENSION fails');
is(sql($clock), 1, 'the clock goes on after DROP EXTENSION was rolled back');
set_mode('external');
sql(q{DROP VIEW v; DROP EXTENSION backfill});
is(sql($clock), 0, 'DROP EXTENSION stops the clock');
set_mode('auto');
is(sql(q{SELECT string_agg(jobname, ', ') FROM cron.job}), 'backfill', 'other jobs of pg_cron stay');
sql(q{SELECT cron.unschedule('backfill')});
create_extension($node);

# Sessions that add and remove schedules all the time: in the end the clock goes if and only if
# there is a schedule.
for my $round (1 .. 5)
{
	run_psqls($node, 'postgres', map {
		my $last = $_ == 1 && $round % 2 ? '' : "SELECT backfill.unschedule('s$_');";
		"SELECT backfill.schedule('s$_', '\@yearly', 't');\nSELECT backfill.unschedule('s$_');\n" x 20
		  . "SELECT backfill.schedule('s$_', '\@yearly', 't');\n$last\n"
	} 1 .. 4);
	is(sql($clock), $round % 2, "after the hustle, round $round: " . ($round % 2 ? 'a schedule, a clock' : 'neither schedule nor clock'));
	sql(q{SELECT backfill.unschedule('s1')});
}

#
# Another database than that of pg_cron: its dispatcher ticks.
#
$node->safe_psql('postgres', qq{CREATE DATABASE "other ""db's"""});
my $other_conn = q{dbname='other "db\'s"'};
sub other_sql { my ($query) = @_; return $node->safe_psql('postgres', $query, connstr => $node->connstr . " $other_conn"); }
other_sql(q{CREATE EXTENSION backfill; SELECT backfill.schedule('s', '* * * * *', 't')});
is(other_sql(q{SELECT detail FROM backfill.health() WHERE check_name = 'schedules'}), 'the clock is dispatcher', 'in another database the dispatcher is the clock');
is(sql('SELECT count(*) FROM cron.job'), 0, 'pg_cron has nothing to do there');

# A database that was renamed: as the guide says, the clock moves along.
# (pg_cron itself has to be elsewhere meanwhile: it is connected to its database.)
my $moved = new_server('moved', conf => $conf);
$moved->start;
sub moved_sql { my ($query, $db) = @_; return $moved->safe_psql($db // 'after', $query); }
sub move_pg_cron { my ($database) = @_; moved_sql("ALTER SYSTEM SET cron.database_name = '$database'", 'postgres'); $moved->restart; }
moved_sql('CREATE DATABASE before', 'postgres');
move_pg_cron('before');
create_extension($moved, 'before');
moved_sql(q{CREATE EXTENSION pg_cron; SELECT backfill.schedule('s', '* * * * *', 't')}, 'before');
move_pg_cron('postgres');
moved_sql('ALTER DATABASE before RENAME TO after', 'postgres');
move_pg_cron('after');
wait_until($moved, 'after', $clock, 'a clock of the old name gets the new one', 1);
is(moved_sql('SELECT count(*) FROM cron.job'), 1, 'the clock with the new name is the only one');

#
# pg_cron itself needs a minute of real time. That begins here, on both servers, and passes while
# the minutes of database fake do.
#
sql(<<'SQL');
CREATE TABLE effect (payload jsonb);
CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO effect (payload) VALUES (payload)';
SELECT backfill.register_task('note', 'note(jsonb)');
SELECT backfill.schedule('real', '* * * * *', 'note');
SQL
# Its job of pg_cron is there; other databases have no clock from now on.
set_mode('external');

#
# From here on the minutes are ours. The handler notes what it is given, in order.
#
$node->safe_psql('postgres', 'CREATE DATABASE fake');
create_extension($node, 'fake');
sql(q{ALTER DATABASE fake SET timezone = 'UTC'});
sql(<<'SQL', 'fake');
CREATE TABLE effect (step serial, payload jsonb);
CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO effect (payload) VALUES (payload)';
SELECT backfill.register_task('note', 'note(jsonb)', queue_name => 'serial');
INSERT INTO backfill.queue (queue_name, concurrency) VALUES ('serial', 1);
CREATE PROCEDURE known_since(since timestamptz) LANGUAGE sql AS 'UPDATE backfill.cron_schedule SET known_since = since, checked_until = since';
CREATE PROCEDURE tick_through(first timestamptz, last timestamptz, step interval, share_rolled_back float8) LANGUAGE plpgsql AS $$
DECLARE
	minute timestamptz;
BEGIN
	FOR minute IN SELECT generate_series(first, last, step) LOOP
		PERFORM backfill._cron_tick(minute);
		IF random() < share_rolled_back THEN ROLLBACK; ELSE COMMIT; END IF;
	END LOOP;
END;
$$;
SQL
my $effects = q{SELECT string_agg(concat_ws(' ', payload->>'schedule', substr(payload->'_cron'->>'ts', 12, 5), payload->'_cron'->>'backfilled'), ', ' ORDER BY step) FROM effect};

# A schedule with fill=2h; the server crashes at 10:00 and is back at 11:30.
sql(q{SELECT backfill.add_cron_schedule('*/15 * * * * note ?id=quarters&fill=2h {schedule: "q"}')}, 'fake');
sql(q{CALL known_since('2026-01-05 09:50'); SELECT backfill._cron_tick('2026-01-05 10:00:02')}, 'fake');
wait_until($node, 'fake', $effects, 'the run at 10:00 is done', 'q 10:00 false');
$node->stop('immediate');
$node->start;
my $tick = q{SELECT backfill._cron_tick('2026-01-05 11:30:01')};
# The first tick after the restart dies before it commits.
my $dying = $node->background_psql('fake');
$dying->query_safe('BEGIN');
is($dying->query_safe($tick), 6, 'a tick has enqueued and not committed');
$node->stop('immediate');
eval { $dying->quit };
$node->start;
is(sql('SELECT count(*) FROM backfill.job', 'fake'), 0, 'a crash takes its jobs away');
is(sql($tick, 'fake'), 6, 'the next tick enqueues all jobs that the crash took away');
is(sql($tick, 'fake'), 0, 'one more tick enqueues nothing');
my $all = 'q 10:00 false, q 10:15 true, q 10:30 true, q 10:45 true, q 11:00 true, q 11:15 true, q 11:30 false';
wait_until($node, 'fake', $effects, 'exactly the missed runs, once, in order', $all);
is(sql('SELECT count(*) FROM backfill.job', 'fake'), 0, 'no job is left over');

# A week of downtime, in which everything is filled.
sql(q{SELECT backfill.unschedule('quarters'); TRUNCATE effect; SELECT backfill.schedule('hours', '0 * * * *', 'note', fill => '1 week'); CALL known_since('2026-01-05')}, 'fake');
$node->restart;
is(sql(q{SELECT backfill._cron_tick('2026-01-12')}, 'fake'), 168, 'after a week: one job for each hour');
wait_until($node, 'fake', 'SELECT count(*) FROM effect', 'which all run', 168);
is(sql(q{SELECT count(*) FROM (SELECT (payload->'_cron'->>'ts')::timestamptz AS ts, lag((payload->'_cron'->>'ts')::timestamptz) OVER (ORDER BY step) AS before FROM effect) e WHERE ts - before <> '1 hour'}, 'fake'),
	0, 'the missed jobs are in the order of their hours');
sql(q{SELECT backfill.unschedule('hours'); TRUNCATE effect}, 'fake');

# Sixteen sessions tick through two days at their own pace, a third of their ticks is rolled
# back, and some are far ahead of others.
sql(q{ALTER SYSTEM SET backfill.max_executors = 0}, 'postgres');
$node->reload;
my %schedules = (every => '* * * * *', odd => '1-59/2 */3 * * *', night => '30 2 * * *', work => '*/10 9-17 * * 1-5');
sql("SELECT backfill.schedule('$_', '$schedules{$_}', 'note', '{\"schedule\": \"$_\"}', time_zone => 'Europe/Berlin', fill => '3 days', max_catchup => 10000)", 'fake')
  for sort keys %schedules;
sql(q{CALL known_since('2026-03-28')}, 'fake');
run_psqls($node, 'fake', (map { "CALL tick_through('2026-03-28 00:00', '2026-03-30 00:00', '$_ minutes', 0.33);\n" } (1 .. 16)));
sql(q{SELECT backfill._cron_tick('2026-03-30 00:00')}, 'fake');
my $twice = q{SELECT count(*) FROM (SELECT FROM backfill.job GROUP BY payload->>'schedule', run_at HAVING count(*) > 1) twice};
is(sql($twice, 'fake'), 0, '16 sessions: no minute was enqueued twice');
is( sql(q{
	WITH expected AS (
		SELECT name, m FROM backfill.schedules, generate_series(timestamptz '2026-03-28 00:01', '2026-03-30 00:00', '1 min') m
		 WHERE backfill.cron_next(cron, time_zone, m - interval '1 s') = m),
	found AS (SELECT payload->>'schedule' AS name, run_at AS m FROM backfill.job)
	SELECT count(*) FROM ((TABLE expected EXCEPT TABLE found) UNION ALL (TABLE found EXCEPT TABLE expected)) d}, 'fake'),
	0, '16 sessions: each due minute was enqueued');
is(sql(q{SELECT count(*) FROM backfill.job WHERE payload->>'schedule' = 'every'}, 'fake'), 2880, '16 sessions: a schedule for every minute has all 2880');
is(sql(q{SELECT count(*) FROM backfill.job WHERE payload->>'schedule' = 'night'}, 'fake'), 2, '16 sessions: a schedule for 2:30 has two nights, one of which has no 2:30');

# Sessions that tick as fast as they can, when a minute comes: it is enqueued once. (In 2020, so that
# the executors, whose clock is the real one, run it at once.)
sql(q{ALTER SYSTEM SET backfill.max_executors = 2}, 'postgres');
$node->reload;
sql(q{SELECT backfill.unschedule(name) FROM backfill.schedules; DELETE FROM backfill.job; TRUNCATE effect}, 'fake');
sql(<<'SQL', 'fake');
CREATE TABLE clock AS SELECT '2020-01-01 10:00:30'::text AS time;
SET backfill.fake_now = '2020-01-01 10:00:30';
SELECT backfill.schedule('minute', '* * * * *', 'note');
SQL
my $bench = start_pgbench($node, 'fake', "SELECT set_config('backfill.fake_now', time, false) FROM clock;\nSELECT backfill.cron_tick();\n", '-c', 4, '-T', 600, '-R', 200);
wait_until($node, 'fake', q{SELECT last_run_at IS NULL AND checked_until >= '2020-01-01 10:00:30' FROM backfill.schedules}, 'many ticks in a minute that was before the schedule');
sql(q{UPDATE clock SET time = '2020-01-01 10:01:00'}, 'fake');
wait_until($node, 'fake', 'SELECT count(*) >= 1 FROM effect', 'many ticks in the minute enqueue its jobs');
sql(q{UPDATE clock SET time = '2020-01-01 10:02:59'}, 'fake');
wait_until($node, 'fake', q{SELECT count(*) FROM effect WHERE payload->'_cron'->>'ts' LIKE '2020-01-01T10:02%'}, 'and the next one', 1);
$bench->{run}->kill_kill;
is(sql(q{SELECT count(*), count(DISTINCT payload->'_cron'->>'ts') FROM effect}, 'fake'), '2|2', 'each once');
sql(q{SELECT backfill.unschedule('minute')}, 'fake');

#
# By now the real minute is nearly over, or longer ago: pg_cron calls.
#
wait_until($node, 'postgres', 'SELECT count(*) >= 1 FROM effect', 'pg_cron alone makes the minute come as well');
is(sql(q{SELECT count(*) - count(DISTINCT payload->'_cron'->>'ts') FROM effect}), 0, 'pg_cron\'s ticks enqueue the job once');
is(sql(q{SELECT min(payload->'_cron'->>'backfilled') FROM effect}), 'false', 'pg_cron\'s ticks are on time');
wait_until($node, 'postgres', q{SELECT count(*) > 0 FROM cron.job_run_details WHERE status = 'succeeded' AND database = 'postgres'}, 'pg_cron is content');
# pg_cron itself may be too late on a busy machine, or find no connection.
is(sql(q{SELECT string_agg(DISTINCT return_message, '; ') FROM cron.job_run_details WHERE status = 'failed' AND return_message ~ 'ERROR'}), '', 'our function never failed');
wait_until($moved, 'after', 'SELECT count(*) >= 1 FROM backfill.jobs', 'the clock of the renamed database ticks');
$moved->stop;
check_log($moved);

# pg_cron goes, and the dispatchers take over.
my $ticks = sql(q{SELECT count(*) FROM cron.job_run_details WHERE database = 'postgres' AND status = 'succeeded'});
cmp_ok($ticks, '>=', 1, 'pg_cron has ticked');
sql('DROP EXTENSION pg_cron');
set_mode('auto');
my $runs = sql('SELECT count(*) FROM effect');
wait_until($node, 'postgres', "SELECT count(*) > $runs FROM effect", 'pg_cron is gone: the next minute comes as well');
is(sql(q{SELECT count(*) - count(DISTINCT payload->'_cron'->>'ts') FROM effect}), 0, 'and no minute came twice');
try_until('the other database is served, too', sub { my $jobs = other_sql('SELECT count(*) FROM backfill.jobs'); return ($jobs >= 1, $jobs) });
is(sql(q{SELECT backfill.unschedule('real')}), 't', 'without pg_cron a schedule can be removed');
is(sql(q{SELECT backfill.schedule('s', '@yearly', 't') IS NOT NULL}), 't', 'and added');

$node->stop;
check_log($node, crashes => 1);
done_testing();

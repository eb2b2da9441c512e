# The dispatcher as the clock of schedules: each due minute is enqueued once, whatever else ticks, whatever
# dies, and wherever the machine's clock goes; and pg_cron comes and goes meanwhile. Time passes as
# backfill.fake_now, but for one minute of a server of its own, which it takes the real timer to see.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $tables = q{
CREATE TABLE effect (schedule text, minute timestamptz, backfilled boolean);
CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS
	$$ INSERT INTO effect SELECT payload->>'schedule', (payload->'_cron'->>'ts')::timestamptz, (payload->'_cron'->>'backfilled')::boolean $$;
SELECT backfill.register_task('note', 'note(jsonb)');
CREATE FUNCTION minutely(name text) RETURNS timestamptz LANGUAGE sql AS
	$$ SELECT backfill.schedule(name, '* * * * *', 'note', jsonb_build_object('schedule', name)) $$;
};

# Nothing is found by chance: it polls once an hour.
my $real = preloaded('real', conf => "backfill.poll_interval = '1h'\n");
create_extension($real);
$real->safe_psql('postgres', "$tables SELECT minutely('real')");

my $node = preloaded('clock', init => { allows_streaming => 1 },
	conf => "backfill.poll_interval = '1h'\nbackfill.executor_idle_timeout = '1s'\ntimezone = 'UTC'\nbackfill.fake_now = '2026-01-05 10:00:30+00'\n");
create_extension($node);

sub sql { return $node->safe_psql('postgres', $_[0]); }

# Sets the clock of the whole server; the workers hear of it by themselves.
sub set_clock
{
	my ($time) = @_;
	sql("ALTER SYSTEM SET backfill.fake_now = '$time+00'");
	$node->reload;
	$node->poll_query_until('postgres', "SELECT current_setting('backfill.fake_now') = '$time+00'") or die;
	return;
}

sub schedules_finding { return sql(q{SELECT concat_ws(' | ', status || ': ' || detail, hint) FROM backfill.health() WHERE check_name = 'schedules'}); }

# An assertion: a schedule has run in these minutes, once each, and in no other.
sub ran
{
	my ($schedule, $minutes, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, 'postgres', qq{SELECT string_agg(to_char(minute, 'HH24:MI'), ' ' ORDER BY minute) FROM effect WHERE schedule = '$schedule'}, $name, $minutes);
}

#
# Without pg_cron, without any setting.
#
sql($tables);
is(schedules_finding(), '', 'without schedules there is nothing to say');
sql(q{SELECT minutely('every'), backfill.schedule('hourly', '0 * * * *', 'note', '{"schedule": "hourly"}')});
is(schedules_finding(), 'ok: the clock is dispatcher', 'health() says what ticks');
set_clock('2026-01-05 10:00:59');
set_clock('2026-01-05 10:01:00');
ran('every', '10:01', 'a due minute is enqueued');
set_clock('2026-01-05 10:01:59');
set_clock('2026-01-05 10:04:30');
ran('every', '10:01 10:02 10:03 10:04', 'a tick that is late loses nothing');
is(sql(q{SELECT checked_until FROM backfill.schedules WHERE name = 'hourly'}), '2026-01-05 10:00:30+00', 'a schedule that is not due is left alone');
set_clock('2026-01-05 09:30');
set_clock('2026-01-05 10:03:30');
set_clock('2026-01-05 10:05:10');
ran('every', '10:01 10:02 10:03 10:04 10:05', 'a clock that was set back enqueues no minute again');
set_clock('2026-01-05 11:03:10');
ran('hourly', '11:00', 'a schedule that was not due for an hour is not late');
ran('every', '10:01 10:02 10:03 10:04 10:05 11:03', 'one that was is: without fill, what was missed is left out');
is(sql(q{SELECT count(*) FROM effect WHERE backfilled}), 0, 'none of these was filled');

# Times of day where the clocks change.
set_clock('2026-03-28 12:00');
sql(q{SELECT backfill.unschedule('every'), backfill.unschedule('hourly'); TRUNCATE effect;
	SELECT backfill.schedule('night', '30 2 * * *', 'note', '{"schedule": "night"}', time_zone => 'Europe/Berlin')});
set_clock("2026-03-29 $_") for '00:59:59', '01:00', '01:30', '02:30';
ran('night', '01:00', 'in spring it runs when the clock has jumped');
sql(q{TRUNCATE effect});
set_clock('2026-10-24 12:00');
set_clock("2026-10-25 $_") for '00:30', '01:30';
ran('night', '00:30', 'in autumn it runs the first time');
sql(q{SELECT backfill.unschedule('night')});

#
# Sessions tick at the same time, and the server crashes now and then.
#
sub once_each
{
	my ($schedule, $from, $to, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, 'postgres', qq{SELECT count(*) || ' ' || count(DISTINCT minute) || ' ' || count(*) FILTER (WHERE minute NOT BETWEEN '$from+00' AND '$to+00')
		FROM effect WHERE schedule = '$schedule'}, $name, join(' ', ($node->safe_psql('postgres', qq{SELECT (extract(epoch FROM '$to'::timestamp - '$from') / 60)::int + 1})) x 2, 0));
}

set_clock('2026-01-06 08:00:30');
sql(q{TRUNCATE effect; SELECT minutely('a'), minutely('b')});
my $bench = start_pgbench($node, 'postgres', "SELECT backfill.cron_tick();\n", '-c', 3, '-T', 3600, '-R', 200);
set_clock(sprintf('2026-01-06 08:%02d:00', $_)) for 1 .. 20;
once_each($_, '2026-01-06 08:01', '2026-01-06 08:20', "$_: dispatcher and sessions together enqueue each minute once") for 'a', 'b';
$bench->{run}->kill_kill;
for my $minute (21 .. 24)
{
	sql("ALTER SYSTEM SET backfill.fake_now = '2026-01-06 08:$minute:00+00'");
	$node->reload;
	$node->stop('immediate');
	$node->start;
}
once_each($_, '2026-01-06 08:01', '2026-01-06 08:24', "$_: and crashes neither lose nor double any") for 'a', 'b';

#
# One bad schedule does not stop the others. Each round has a minute of its own.
#
my $minute = 24;
my $good_since = '2026-01-06 08:01';
sub next_minute { set_clock('2026-01-06 ' . ($minute < 59 ? sprintf('08:%02d:00', ++$minute) : die)); return; }
sub others_go_on
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	next_minute();
	once_each('a', $good_since, "2026-01-06 08:$minute", "$name: others are enqueued");
	sql(qq{SELECT backfill.enqueue('note', '{"schedule": "job $minute"}')});
	return wait_until($node, 'postgres', qq{SELECT count(*) FROM effect WHERE schedule = 'job $minute'}, "$name: jobs run", 1);
}
sub health_says
{
	my ($check, $like, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, 'postgres', qq{SELECT status || ': ' || coalesce(detail, '') FROM backfill.health() WHERE check_name = '$check'}, "$name: health() says it", $like);
}
# It is mended: what is not long ago is enqueued, too.
sub healed
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->reload;
	once_each('b', $good_since, "2026-01-06 08:$minute", "$name: the bad one is enqueued when it is mended");
	health_says('set_aside', qr/^ok/, "$name, mended");
	return health_says('schedules', qr/^ok/, "$name, mended");
}

my $session = $node->background_psql('postgres');
$session->query_safe(q{BEGIN; SELECT name FROM backfill.cron_schedule WHERE name = 'b' FOR UPDATE});
others_go_on('a schedule that a session has locked');
$session->query_safe('ROLLBACK');
healed('a schedule that a session has locked');

sql(q{UPDATE backfill.cron_schedule SET job_key = 'key' WHERE name = 'b'});
$session->query_safe(q{BEGIN; SELECT backfill.enqueue('unregistered', job_key => 'key')});
others_go_on('a key that a session holds');
health_says('set_aside', qr/^warning: schedule .*\(b\) since .* 55P03/, 'a key that a session holds');
health_says('schedules', qr/^critical: b: the last tick could not enqueue/, 'a key that a session holds');
$session->query_safe('ROLLBACK');
healed('a key that a session holds');
sql(q{UPDATE backfill.cron_schedule SET job_key = NULL});

sql(q{UPDATE backfill.cron_schedule SET time_zone = 'US/Pacific-New' WHERE name = 'b'});
others_go_on('a zone that is gone');
health_says('schedules', qr/^critical: b: the last tick could not enqueue/, 'a zone that is gone');
is(sql(q{SELECT last_error ~ 'US/Pacific-New' FROM backfill.schedules WHERE name = 'b'}), 't', 'last_error says why');
sql(q{UPDATE backfill.cron_schedule SET time_zone = 'UTC' WHERE name = 'b'});
healed('a zone that is gone');

sql(q{
	CREATE TABLE harm (how text);
	CREATE FUNCTION harm() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$ DECLARE how text := (SELECT h.how FROM harm h); BEGIN
		IF new.name <> 'b' OR (SELECT backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()) <> 'backfill dispatcher' THEN RETURN new; END IF;
		IF how = 'fail' THEN RAISE 'this row is not to be changed'; END IF;
		IF how = 'end' THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); END IF;
		IF how = 'hang' THEN PERFORM pg_sleep(3600); END IF;
		RETURN new;
	END $$;
	CREATE TRIGGER harm BEFORE UPDATE ON backfill.cron_schedule FOR EACH ROW EXECUTE FUNCTION harm()});
my %harms = (fail => 'this row is not to be changed', end => 'this has ended the dispatcher', hang => 'it took longer than');
for my $how (sort keys %harms)
{
	my $name = "a trigger, '$how'";
	sql("TRUNCATE harm; INSERT INTO harm VALUES ('$how')");
	others_go_on($name);
	health_says('set_aside', qr/^warning: schedule .*$harms{$how}/, $name);
	sql('TRUNCATE harm');
	healed($name);
}
sql('DROP TRIGGER harm ON backfill.cron_schedule');

$session->query_safe('BEGIN; LOCK TABLE backfill.cron_schedule');
next_minute();
wait_until($node, 'postgres', q{SELECT kind || ' ' || name || ' ' || sqlstate FROM backfill._set_aside()}, 'a locked table: the step is set aside', 'step enqueue what schedules say 55P03');
sql(qq{SELECT backfill.enqueue('note', '{"schedule": "locked"}')});
wait_until($node, 'postgres', q{SELECT count(*) FROM effect WHERE schedule = 'locked'}, 'a locked table: jobs run', 1);
$session->query_safe('ROLLBACK');
healed('a locked table');
$session->quit;

once_each($_, $good_since, "2026-01-06 08:$minute", "$_: each minute up to here, once") for 'a', 'b';

#
# A schedule that no commit has announced is found at the next occasion.
#
sql(q{INSERT INTO backfill.cron_schedule SELECT (json_populate_record(s, '{"name": "c", "payload": {}}')).* FROM backfill.cron_schedule s WHERE name = 'a'});
set_clock(sprintf('2026-01-06 08:%02d:00', ++$minute));
wait_until($node, 'postgres', qq{SELECT count(*) FROM backfill.schedules WHERE last_run_at = '2026-01-06 08:$minute+00'}, 'a row that was copied is followed', 3);
sql(q{SELECT backfill.unschedule('c')});

#
# A standby does nothing until it is promoted, and then goes on where the primary has ended.
#
$node->backup('base');
my $standby = new_standby($node);
set_clock(sprintf('2026-01-06 08:%02d:00', ++$minute));
once_each('b', $good_since, "2026-01-06 08:$minute", 'the primary goes on');
$node->wait_for_catchup($standby);
$node->stop('immediate');
$standby->append_conf('postgresql.auto.conf', "backfill.fake_now = '2026-01-06 08:59:00+00'\n");
$standby->reload;
is($standby->safe_psql('postgres', q{SELECT coalesce(detail, '') FROM backfill.health() WHERE check_name = 'schedules'}), '', 'a standby has nothing to say of its schedules');
$standby->promote;
$node = $standby;
wait_until($node, 'postgres', q{SELECT count(*) FROM backfill.schedules WHERE last_run_at = '2026-01-06 08:59:00+00'}, 'the promoted standby ticks', 2);
wait_until($node, 'postgres', q{SELECT count(*) - count(DISTINCT (schedule, minute)) FROM effect WHERE schedule IN ('a', 'b')}, 'and no minute comes twice', 0);
wait_until($node, 'postgres', q{SELECT count(*) FROM effect WHERE minute >= '2026-01-06 08:59+00'}, 'its jobs run', 2);
is(sql(qq{SELECT count(*) FROM effect WHERE minute > '2026-01-06 08:$minute+00'}), 2, 'the gap was too long to be made up for');

# A database's settings are for sessions.
sql(q{ALTER DATABASE postgres SET default_transaction_read_only = on; ALTER DATABASE postgres SET timezone = 'Asia/Tokyo'});
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'backfill dispatcher'});
set_clock('2026-01-06 09:00:00');
wait_until($node, 'postgres', q{SELECT count(*) FROM backfill.schedules WHERE last_run_at = '2026-01-06 09:00:00+00'}, 'a database that is read-only by default: schedules are followed', 2);
$node->stop;
check_log($node, crashes => 1);

#
# pg_cron comes and goes. It ticks when this test does: it cannot log in itself, and writes nothing of that.
#
$node = new_server('switch', conf => "shared_preload_libraries = 'backfill, pg_cron'\ncron.host = '/nowhere'\ncron.log_run = off\nbackfill.poll_interval = '1h'\ntimezone = 'UTC'\n");
$node->append_conf('postgresql.auto.conf', "backfill.fake_now = '2026-01-07 09:00:30+00'\n");
$node->start;
create_extension($node);
sql(q{CREATE FUNCTION polls() RETURNS bigint LANGUAGE sql AS
	$$ SELECT sum(m.value)::bigint FROM backfill.metrics('backfill_worker_polls') m WHERE m.labels->>'worker_kind' = 'dispatcher' $$});
sql("$tables SELECT minutely('s')");
my $minutes = 0;
# As pg_cron does it, which runs what its table says.
sub tick_of_pg_cron { sql(sql(q{SELECT command FROM cron.job WHERE database = 'postgres' AND active})); return; }

# An assertion: the dispatcher has taken a pass that began after this call.
sub dispatcher_looks
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for (1 .. 2)
	{
		my $polls = sql('SELECT polls()');
		$node->reload;
		$node->poll_query_until('postgres', "SELECT polls() > $polls") or die;
	}
	return pass("$name: the dispatcher has looked");
}
sub clock_is
{
	my ($clock, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, 'postgres', q{SELECT detail FROM backfill.health() WHERE check_name = 'schedules'}, $name, qr/^the clock is $clock|^the clock, $clock/);
}
# The next minute comes, and is enqueued by the one or the other.
sub minute_comes
{
	my ($by, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	set_clock(sprintf('2026-01-07 09:%02d:00', ++$minutes));
	if ($by eq 'pg_cron')
	{
		dispatcher_looks($name);
		is(sql(q{SELECT checked_until < backfill._now() FROM backfill.schedules}), 't', "$name: the dispatcher leaves it to pg_cron");
		tick_of_pg_cron();
	}
	return once_each('s', '2026-01-07 09:01', sprintf('2026-01-07 09:%02d', $minutes), "$name: each minute once");
}
sub set_mode
{
	my ($mode) = @_;
	sql("ALTER SYSTEM SET backfill.cron_clock = '$mode'");
	$node->reload;
	return $node->poll_query_until('postgres', "SELECT current_setting('backfill.cron_clock') = '$mode'") || die;
}
my $job = q{SELECT count(*) FROM cron.job WHERE command = 'SELECT backfill.cron_tick()' AND username = CURRENT_USER};

clock_is('dispatcher', 'pg_cron is not installed: the dispatcher ticks');
minute_comes('dispatcher', 'without pg_cron');
sql('CREATE EXTENSION pg_cron');
$node->reload;
wait_until($node, 'postgres', $job, 'pg_cron comes: the dispatcher gives it its job', 1);
clock_is('pg_cron', 'pg_cron is the clock');
minute_comes('pg_cron', 'with pg_cron');
set_mode('dispatcher');
clock_is('dispatcher', 'the dispatcher is to tick');
minute_comes('dispatcher', 'with pg_cron, which still calls');
is(sql($job), 1, 'pg_cron still has its job');
tick_of_pg_cron();
once_each('s', '2026-01-07 09:01', "2026-01-07 09:0$minutes", 'which does no harm');
sql(q{SELECT minutely('s')});
is(sql($job), 0, 'schedule() takes it away');
set_mode('pg_cron');
wait_until($node, 'postgres', $job, 'pg_cron is to tick: it has its job again, without a call of schedule()', 1);
minute_comes('pg_cron', 'pg_cron again');
set_mode('auto');
sql('DROP EXTENSION pg_cron');
$node->reload;
minute_comes('dispatcher', 'pg_cron goes: the dispatcher ticks');

# An operator has paused the clock.
sql('CREATE EXTENSION pg_cron');
$node->reload;
wait_until($node, 'postgres', $job, 'pg_cron is back', 1);
sql('UPDATE cron.job SET active = false');
set_clock(sprintf('2026-01-07 09:%02d:00', $minutes + 4));
dispatcher_looks('a clock that is paused');
is(sql(q{SELECT checked_until FROM backfill.schedules}), "2026-01-07 09:0$minutes:00+00", 'a clock that is paused: nothing ticks');
is(schedules_finding() =~ s/job \d+/job/r =~ s/ \|.*//r, 'critical: job of pg_cron, the clock, is not active', 'health() says it');
sql('UPDATE cron.job SET active = true');

# pg_cron cannot log in: the dispatcher stands in, late, and health() says so within two minutes.
$minutes += 4;
$node->reload;
once_each('s', '2026-01-07 09:01', "2026-01-07 09:0$minutes", 'pg_cron does not tick for four minutes: the dispatcher does');
set_clock(sprintf('2026-01-07 09:%02d:50', $minutes + 1));
like(schedules_finding(), qr/^warning: the clock, pg_cron, has not ticked since 2026-01-07 09:0$minutes:00.*; meanwhile the dispatcher sees to the schedules, two minutes late \| pg_cron calls/, 'after less than two minutes health() says that there is no tick');
sql(q{INSERT INTO cron.job_run_details (jobid, runid, database, username, command, status, return_message, start_time)
	SELECT jobid, nextval('cron.runid_seq'), database, username, command, 'failed', 'connection failed', now() FROM cron.job});
like(schedules_finding(), qr/^warning: the last run of job \d+ of pg_cron, the clock, failed: connection failed; meanwhile the dispatcher .* \| pg_cron cannot log in\. Set cron\.use_background_workers to on and restart the server, or set backfill\.cron_clock to dispatcher\./,
	'and why');
set_mode('pg_cron');
like(schedules_finding(), qr/^critical: the last run of job \d+ of pg_cron/, 'if only pg_cron may tick, that is critical');
$minutes += 4;
set_clock(sprintf('2026-01-07 09:%02d:50', $minutes));
dispatcher_looks('only pg_cron may tick');
is(sql(q{SELECT checked_until < backfill._now() - interval '4 minutes' FROM backfill.schedules}), 't', 'only pg_cron may tick: nothing does');

# A caller of schedule() where pg_cron has to tick is told why it cannot.
sub error { my ($code, $out, $err) = $node->psql('postgres', q{SELECT minutely('s')}); return $err; }
sql('DROP EXTENSION pg_cron');
like(error(), qr/ERROR:  backfill.cron_clock is pg_cron, which is not available in this database\nDETAIL:  The server loads pg_cron, but the extension does not exist\.\nHINT:  Run CREATE EXTENSION pg_cron\. Or set backfill\.cron_clock to auto/, 'pg_cron is not installed');
like(schedules_finding(), qr/^critical: extension pg_cron is not installed in this database \| /, 'health() says it');
$node->append_conf('postgresql.conf', "cron.database_name = 'nowhere'\n");
$node->restart;
like(error(), qr/DETAIL:  It is set up for database "nowhere", which does not exist\./, 'its database is gone');
sql('CREATE DATABASE elsewhere');
$node->append_conf('postgresql.conf', "cron.database_name = 'elsewhere'\n");
$node->restart;
like(error(), qr/DETAIL:  pg_cron runs in database "elsewhere" only\./, 'it lives elsewhere');
like(schedules_finding(), qr/^critical: pg_cron runs in database elsewhere only \| /, 'health() says it, too');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'backfill'\n");
$node->restart;
like(error(), qr/DETAIL:  The server does not load pg_cron\./, 'the server does not load it');
like(schedules_finding(), qr/^critical: the server does not load pg_cron \| /, 'health() goes by that, too, not by what the configuration says of it');
set_mode('auto');
wait_until($node, 'postgres', q{SELECT checked_until FROM backfill.schedules}, 'with auto the dispatcher ticks there', sprintf('2026-01-07 09:%02d:00+00', $minutes));
is(sql(q{SELECT count(*) - count(DISTINCT minute) FROM effect WHERE schedule = 's'}), 0, 'of all that no minute came twice');

# And without a dispatcher?
$node->append_conf('postgresql.conf', "backfill.databases = 'elsewhere'\n");
$node->reload;
wait_for_workers($node, 'dispatcher', 'postgres', 0, 'the database has no dispatcher');
like(error(), qr/WARNING:  the clock of schedules does not work: backfill\.databases does not name this database/, 'schedule() says that nothing ticks');
like(schedules_finding(), qr/^critical: backfill\.databases does not name this database/, 'health() says it');
$node->stop;
check_log($node);

#
# By now the real minute is over, or soon will be.
#
wait_until($real, 'postgres', 'SELECT count(*) >= 1 FROM effect', 'the dispatcher\'s own timer sees a real minute');
is($real->safe_psql('postgres', 'SELECT count(*) - count(DISTINCT minute), bool_or(backfilled) FROM effect'), '0|f', 'once, and in time');
is($real->safe_psql('postgres', q{SELECT status FROM backfill.health() WHERE check_name = 'schedules'}), 'ok', 'health() is content');
$real->stop;
check_log($real);
done_testing();

sub new_standby
{
	my ($primary) = @_;
	my $new = PostgreSQL::Test::Cluster->new('standby');
	$new->init_from_backup($primary, 'base', has_streaming => 1);
	$new->start;
	return $new;
}

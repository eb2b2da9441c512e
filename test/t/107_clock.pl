# With pg_cron the clock of schedules is its job that belongs to the extension's owner and runs every
# minute; schedule() and health() say when it cannot. (With auto: 134_dispatcher_clock.)
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

# Nothing ticks here: pg_cron would log in through localhost, where this server does not listen, and writes nothing of that.
my $node = new_server('clock', conf => q{
shared_preload_libraries = 'backfill, pg_cron'
cron.log_run = off
backfill.cron_clock = pg_cron
backfill.max_executors = 0
});
$node->start;
create_extension($node);
$node->safe_psql('postgres', q{CREATE EXTENSION pg_cron; SELECT backfill.register_task('t')});
$node->safe_psql('postgres', 'CREATE ROLE boss SUPERUSER LOGIN');

# Calls schedule() and returns what it says besides.
sub scheduling
{
	my ($user) = @_;
	my ($code, $out, $err) = $node->psql('postgres', q{SELECT backfill.schedule('yearly', '@yearly', 't')}, extra_params => [ '-U', $user // $node->safe_psql('postgres', q{SELECT rolname FROM pg_roles WHERE oid = 10}, extra_params => [ '-U', 'boss' ]) ]);
	is($code, 0, 'schedule() succeeds');
	return $err;
}
sub boss { my ($query) = @_; return $node->safe_psql('postgres', $query, extra_params => [ '-U', 'boss' ]); }
sub finding { return boss(q{SELECT status || ': ' || coalesce(detail || ' | ' || hint, '') FROM backfill.health() WHERE check_name = 'schedules'}); }
my $clocks = q{SELECT username, schedule, active FROM cron.job WHERE command = 'SELECT backfill.cron_tick()' ORDER BY 1};
my $owner = boss(q{SELECT rolname FROM pg_roles WHERE oid = 10});

is(finding(), 'ok: ', 'without schedules no clock is wanted');

# A job of another role is not the clock, whatever it is called.
boss(q{SELECT cron.schedule('backfill.cron_tick()', '0 0 1 1 *', 'SELECT backfill.cron_tick()')});
like(scheduling(), qr/WARNING:  the clock of schedules does not work: pg_cron cannot log in: it connects to localhost, where the server does not listen\nHINT:  Set cron.use_background_workers to on/, 'schedule() says that pg_cron cannot log in');
is(boss($clocks), "boss|0 0 1 1 *|t\n$owner|* * * * *|t", 'the owner has got a clock of its own');
like(finding(), qr/^critical: pg_cron cannot log in: .* \| Set cron.use_background_workers to on/, 'health() says it, too');

# What pg_cron notes of its runs.
my $run = q{INSERT INTO cron.job_run_details (jobid, runid, database, username, command, status, return_message, start_time)
	SELECT jobid, nextval('cron.runid_seq'), database, username, command, '%s', '%s', now() FROM cron.job WHERE username <> 'boss'};
boss(sprintf($run, 'failed', 'connection failed'));
like(finding(), qr/^critical: the last run of job \d+ of pg_cron, the clock, failed: connection failed \| pg_cron cannot log in. Set cron.use_background_workers/, 'a run that could not log in');
like(scheduling(), qr/the clock of schedules does not work: the last run of job \d+ of pg_cron, the clock, failed: connection failed/, 'schedule() says it');
boss(sprintf($run, 'failed', 'ERROR: permission denied'));
like(finding(), qr/^critical: the last run .* failed: ERROR: permission denied \| See cron.job_run_details/, 'a run that failed');
$node->safe_psql('postgres', q{CREATE ROLE watcher; SELECT backfill.grant_monitor('watcher')});
like($node->safe_psql('postgres', q{SET ROLE watcher; SELECT detail FROM backfill.health() WHERE check_name = 'schedules'}),
	qr/^the last run of job \d+ of pg_cron, the clock, failed(;|$)/, 'a monitor is not told the text of the error');
boss(sprintf($run, 'succeeded', '1 row'));
is(finding(), 'ok: ', 'health() is content with a tick that succeeded');
is(scheduling(), '', 'schedule() has nothing to say');

# Paused by an operator, or made rare.
boss(q{UPDATE cron.job SET active = false WHERE username <> 'boss'});
like(finding(), qr/^critical: job \d+ of pg_cron, the clock, is not active \| SELECT cron.alter_job\(\d+, /, 'a clock that is paused');
like(scheduling(), qr/the clock of schedules does not work: job \d+ of pg_cron, the clock, is not active/, 'schedule() says it');
is(boss($clocks), "boss|0 0 1 1 *|t\n$owner|* * * * *|f", 'schedule() leaves the clock paused');
boss(q{UPDATE cron.job SET active = true, schedule = '0 0 * * *' WHERE username <> 'boss'});
like(finding(), qr/^critical: job \d+ of pg_cron, the clock, runs at "0 0 \* \* \*" only \| /, 'a clock that is too rare');
boss(q{UPDATE cron.job SET schedule = '* * * * *' WHERE username <> 'boss'});

# The owner is renamed: pg_cron, which keeps names, cannot log in; schedule() makes another job.
boss(qq{ALTER ROLE "$owner" RENAME TO chief});
scheduling('chief');
is(boss($clocks), "boss|0 0 1 1 *|t\nchief|* * * * *|t", 'schedule() has made it again, and removed the one that had no role');
boss(q{ALTER ROLE chief RENAME TO head});
$node->reload;
try_until('and so does the dispatcher', sub { my $seen = boss($clocks); return ($seen eq "boss|0 0 1 1 *|t\nhead|* * * * *|t", $seen) });
$node->safe_psql('postgres', q{SELECT backfill.unschedule('yearly')}, extra_params => [ '-U', 'head' ]);
is(boss($clocks), 'boss|0 0 1 1 *|t', 'with the last schedule the clock goes, and nothing else');

$node->stop;
check_log($node);
done_testing();

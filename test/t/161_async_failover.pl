# An asynchronous standby is promoted that lacks the primary's last transactions. Lost is what was committed
# after the WAL that had reached the standby, acknowledged or not, and nothing else: enqueues, effects and
# completions. A job whose effect is lost runs again, so no effect is there twice; and a claim that is lost
# is not one of the new primary.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use Failover;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $old = primary_for_load('anna');
my $new = standby_of($old, 'berta');
my $clients = both_servers($old, $new);
my $ledger = PostgreSQL::Test::Utils::tempdir();
sub on { my ($node, $query) = @_; return $node->safe_psql('postgres', $query); }
my $begin = on($old, 'SELECT pg_current_wal_lsn()');

my @clients = ((map { start_client('producer', "producer$_", $clients, $ledger) } 1 .. 3),
	(map { start_client('consumer', "consumer$_", $clients, $ledger) } 1 .. 2));
wait_until($old, 'postgres', q{SELECT (SELECT count(*) > 100 FROM effect) AND (SELECT count(*) > 20 FROM completion)}, 'clients are at work');

# These jobs reach the standby; they run, or are claimed and completed, only afterwards.
on($old, q{
	SELECT backfill.register_task('held'), backfill.pause_queue('later');
	INSERT INTO intended (token, kind, job_id)
	SELECT 'later-' || g, t, backfill.enqueue(CASE t WHEN 'plain' THEN 'work' ELSE t END, jsonb_build_object('token', 'later-' || g), queue_name => 'later')
	  FROM generate_series(1, 60) g, LATERAL (SELECT CASE WHEN g % 3 = 0 THEN 'outside' ELSE 'plain' END) k (t);
	SELECT count(*) FROM backfill.enqueue_many('held', (SELECT array_agg(to_jsonb(g)) FROM generate_series(1, 10) g), 'unlimited')});
append_to_file("$ledger/test", join '', map { sprintf "%.3f enqueued later-%d\n", time, $_ } 1 .. 60);
sub claim_held { return split /\n/, on($_[0], q{SELECT c.id || ' ' || c.claim_token FROM generate_series(1, 5) g, LATERAL backfill.claim_jobs('test ' || g, tasks => '{held}', lease => '1 hour') c}); }
my @kept = claim_held($old);
is(scalar(@kept), 5, 'claims that reach the standby');
$old->wait_for_catchup($new);

$new->safe_psql('postgres', q{ALTER SYSTEM SET primary_conninfo = ''});
$new->reload;
wait_until($new, 'postgres', 'SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)', 'the standby is cut off');
my $reached = on($new, 'SELECT pg_last_wal_receive_lsn()');
my $acknowledged = () = grep { $_->[0] eq 'enqueued' } ledger_events($ledger);

my @lost = claim_held($old);
is(scalar(@lost), 5, 'claims that do not');
my ($completed, $its_token) = split / /, $kept[0];
is(on($old, "SELECT backfill.complete_jobs('{$completed}', $its_token)"), $completed, 'a completion that does not');
on($old, q{SELECT backfill.resume_queue('later')});
wait_until($old, 'postgres', q{SELECT (SELECT count(*) FROM effect WHERE token ~ 'later') || ' ' || (SELECT count(*) FROM completion WHERE token ~ 'later')}, 'the jobs are done on the old primary', '40 20');
try_until('many enqueues are acknowledged that the standby does not hear of', sub {
	my $now = () = grep { $_->[0] eq 'enqueued' } ledger_events($ledger);
	return ($now > $acknowledged + 200, $now);
});
kill_machine($old);
$new->promote;
wait_until($new, 'postgres', 'SELECT NOT pg_is_in_recovery()', 'the standby is promoted');

# --- Claims.

# Asks for everything that a token is good for, and returns what that did.
sub try_token
{
	my ($id, $token) = @_;
	return on($new, qq{SELECT (SELECT count(*) FROM backfill.heartbeat($token)), (SELECT count(*) FROM backfill.complete_jobs('{$id}', $token)),
		(SELECT count(*) FROM backfill.release_jobs('{$id}', $token)), backfill.snooze_job($id, $token, '1 hour'), backfill.fail_job($id, $token, 'no')});
}
is(try_token(split / /), '0|0|0|f|lost', 'the token of a lost claim is good for nothing before its job is claimed again') for @lost;
my %again = map { split / / } claim_held($new);
is_deeply([ sort keys %again ], [ sort map { (split / /)[0] } @lost ], 'jobs whose claims are lost are claimed again');
is(try_token(split / /), '0|0|0|f|lost', 'nor afterwards') for @lost;
is(on($new, "SELECT state FROM backfill.jobs WHERE id = $completed"), 'leased', 'a job whose completion is lost has its claim still');
my ($other) = keys %again;
is(on($new, "SELECT backfill.complete_jobs('{$other}', $its_token)"), '', 'which is none of another job');
is(on($new, "SELECT backfill.complete_jobs('{$completed}', $its_token)"), $completed, 'and completes its own');
for (@kept[ 1 .. 4 ], map { "$_ $again{$_}" } keys %again)
{
	my ($id, $token) = split / /;
	is(on($new, "SELECT backfill.complete_jobs('{$id}', $token)"), $id, 'claims that the new primary knows complete their jobs');
}

# --- Clients go on until all is done.

is(on($new, q{SELECT paused FROM backfill.queues WHERE queue_name = 'later'}), 't', 'that the queue was resumed is lost, too');
on($new, q{SELECT backfill.resume_queue('later')});
wait_until($new, 'postgres', q{SELECT (SELECT count(*) FROM effect WHERE token ~ 'later') || ' ' || (SELECT count(*) FROM completion WHERE token ~ 'later')}, 'jobs whose effects or completions are lost run again', '40 20');
wait_until($new, 'postgres', 'SELECT count(*) > 150 FROM intended WHERE server = current_setting($$port$$)', 'clients go on');
stop_clients(@clients);
wait_until($new, 'postgres', q{SELECT NOT EXISTS (SELECT FROM backfill.job WHERE task_identifier = 'work')}, 'all SQL jobs have ended');
my $last = start_client('consumer', 'the_last', $clients, $ledger);
wait_until($new, 'postgres', 'SELECT NOT EXISTS (SELECT FROM backfill.job)', 'all jobs have ended');
stop_clients($last);

# --- What was lost, from the old primary's WAL: transactions that had been committed when the standby was cut off.

sub committed_until
{
	my ($end) = @_;
	my ($out, $err) = ('', '');
	# Without an end it ends where the WAL does, and says so.
	IPC::Run::run([ 'pg_waldump', '-p', $old->data_dir . '/pg_wal', '-r', 'Transaction', '-s', $begin, defined $end ? ('-e', $end) : () ], '>', \$out, '2>', \$err);
	return map { $_ => 1 } $out =~ /^rmgr: Transaction .* tx: +(\d+), .* desc: COMMIT /mg;
}
my %reached = committed_until($reached);
my %all = committed_until();
my %is_lost = map { $_ => 1 } grep { !$reached{$_} } keys %all;
cmp_ok(scalar(keys %reached), '>', 100, 'transactions that reached the standby');
cmp_ok(scalar(keys %is_lost), '>', 100, 'transactions that did not');

# The old primary, which nothing connects to: as it was when it was killed, because it has no workers.
$old->append_conf('postgresql.conf', "backfill.databases = 'nowhere'\ndefault_transaction_read_only = on\n");
$old->start;
my %words = (intended => 'token', effect => 'token', completion => q{token || ' ' || claim});
my %gone;
for my $table (sort keys %words)
{
	my @old_rows = map { [ split /\|/ ] } split /\n/, on($old, "SELECT at, $words{$table} FROM $table");
	my @expected = sort map { $_->[1] } grep { !$is_lost{ $_->[0] } } @old_rows;
	$gone{$table} = { map { $_->[1] => 1 } grep { $is_lost{ $_->[0] } } @old_rows };
	my @has = sort split /\n/, on($new, "SELECT $words{$table} FROM $table WHERE server = '" . $old->port . q{'});
	is_deeply(\@has, \@expected, "$table: of the old primary's transactions the new one has those that reached it, and no other");
	cmp_ok(scalar(@expected), '>', 20, "$table: " . @expected . ' are there');
	cmp_ok(scalar(keys %{ $gone{$table} }), '>', 20, "$table: " . keys(%{ $gone{$table} }) . ' are lost');
}

# What clients had been told of that, which makes the ledger balance. What one of them was not sure of it has repeated.
my %repeated = map { join(' ', @$_) => 1 } map { $_->[0] eq 'repeated' ? ['enqueued', $_->[1]] : $_->[0] eq 'completed' && ($_->[3] // '') eq 'repeated' ? [ @$_[ 0 .. 2 ] ] : () } ledger_events($ledger);
my @told = grep { !$repeated{$_} } (map { "enqueued $_" } keys %{ $gone{intended} }), (map { "completed $_" } keys %{ $gone{completion} });
my $lost_file = PostgreSQL::Test::Utils::tempdir() . '/lost';
append_to_file($lost_file, join '', map { "$_\n" } @told);
ledger_balances($new->connstr('postgres'), $ledger, 'an asynchronous standby that was behind', $lost_file);

# Ids are issued again: what a consumer was told of a lost job may be another job's now. (Enqueues
# that replace a job have its id.)
my %old_id = map { split /\|/ } split /\n/, on($old, q{SELECT job_id, token FROM intended WHERE kind <> 'replace'});
my %new_id = map { split /\|/ } split /\n/, on($new, q{SELECT job_id, token FROM intended WHERE kind <> 'replace'});
my @twice = grep { exists $new_id{$_} && $new_id{$_} ne $old_id{$_} } keys %old_id;
cmp_ok(scalar(@twice), '>', 0, scalar(@twice) . ' ids have been two jobs');
is(scalar(grep { !$gone{intended}{ $old_id{$_} } } @twice), 0, 'of which the first is lost');

# --- The old primary comes back, and has what the new one has.

$old->stop;
$new->safe_psql('postgres', 'ALTER SYSTEM RESET primary_conninfo'); # pg_rewind copies it
come_back_as_standby($old, $new);
$new->wait_for_catchup($old);
for my $table (sort keys %words)
{
	my $query = "SELECT md5(string_agg($words{$table} || server, ',' ORDER BY $words{$table}, server)) FROM $table";
	is(on($old, $query), on($new, $query), "$table is the same on the old primary after pg_rewind");
}
is(on($old, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^backfill'}), '0', 'which has no workers');

$old->stop;
$new->stop;
check_log($_) for $old, $new;
done_testing();

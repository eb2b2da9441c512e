# The recipe of docs/failover.md to move a database to another server by logical replication, under load:
# each job that was enqueued on the old server ran once, on the one or the other, claims go on to be valid,
# and no id or token is issued twice.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use Failover;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $old = primary_for_load('old', wal_level => 'logical');
my $new = preloaded('new', init => { allows_streaming => 'logical' }, conf => "backfill.max_executors = 3\nbackfill.databases = ''\n");
sub on { my ($node, $query) = @_; return $node->safe_psql('postgres', $query); }
sub set { my ($node, @settings) = @_; on($node, "ALTER SYSTEM SET $_") for @settings; $node->reload; return; }
my $ledger = PostgreSQL::Test::Utils::tempdir();
sub clients_of
{
	my ($node, $name) = @_;
	my $conninfo = $node->connstr('postgres');
	return ((map { start_client('producer', "$name-producer$_", $conninfo, $ledger) } 1 .. 2), start_client('consumer', "$name-consumer", $conninfo, $ledger));
}

my @clients = clients_of($old, 'old');
wait_until($old, 'postgres', 'SELECT (SELECT count(*) > 50 FROM effect) AND (SELECT count(*) > 10 FROM completion)', 'clients of the old server are at work');
on($old, q{
	SELECT count(*) FROM backfill.enqueue_many('held', '{1,2,3}', 'unlimited');
	SELECT backfill.enqueue('work', '{"token": "later"}', run_at => now() + interval '1 day') AS id \gset
	INSERT INTO intended (token, kind, job_id) VALUES ('later', 'plain', :id)});
append_to_file("$ledger/test", sprintf("%.3f enqueued later\n", time));
my ($held, $token) = split /\|/, on($old, q{SELECT id, claim_token FROM backfill.claim_jobs('test', tasks => '{held}', lease => '1 hour')});

# 1. The schema, without workers, and all tables.
my $dump = PostgreSQL::Test::Utils::tempdir() . '/schema.sql';
$old->command_ok([ 'pg_dump', '--schema-only', '--dbname', $old->connstr('postgres'), '--file', $dump ], 'the schema is dumped');
$new->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $new->connstr('postgres') ], 'and restored');
on($old, 'CREATE PUBLICATION move FOR ALL TABLES');
my $source = $old->connstr('postgres') =~ s/'/''/gr;
on($new, "CREATE SUBSCRIPTION move CONNECTION '$source' PUBLICATION move");
wait_until($new, 'postgres', q{SELECT count(*) > 0 AND bool_and(srsubstate IN ('r', 's')) FROM pg_subscription_rel}, 'all tables are copied');
my $ran = on($new, 'SELECT count(*) FROM effect');
wait_until($new, 'postgres', "SELECT count(*) > $ran + 50 FROM effect", 'and follow the old server');
is(on($new, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^backfill (dispatcher|executor)'}), '0', 'the new server runs nothing');

# 2. Clients stop, then executors, then the dispatcher.
stop_clients(@clients);
set($old, 'backfill.max_executors = 0', q{backfill.cron_clock = 'external'});
wait_until($old, 'postgres', q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'backfill executor')}, 'the old server has no executors any more');
set($old, q{backfill.databases = ''});
wait_until($old, 'postgres', q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'backfill dispatcher')}, 'and no dispatcher');
$old->wait_for_catchup('move');

# 3. What is not replicated: where sequences stand.
on($new, 'DROP SUBSCRIPTION move');
my $sequences = on($old, q{SELECT format('SELECT setval(%L, %s);', format('%I.%I', schemaname, sequencename), last_value) FROM pg_sequences WHERE last_value IS NOT NULL});
like($sequences, qr/setval\('backfill\.$_'/, "$_ is among the sequences") for qw(job_id_seq claim_token_seq);
on($new, $sequences);
is(on($new, 'SELECT count(*) FROM backfill.jobs'), on($old, 'SELECT count(*) FROM backfill.jobs'), 'the new server has the jobs');

# 4. The new server's workers, and its clients.
on($new, 'ALTER SYSTEM RESET backfill.databases');
$new->append_conf('postgresql.conf', "backfill.databases = '*'\n");
$new->reload;
is(on($new, "SELECT backfill.complete_jobs('{$held}', $token)"), $held, 'a claim of the old server completes its job on the new one');
@clients = clients_of($new, 'new');
$ran = on($new, 'SELECT count(*) FROM effect');
wait_until($new, 'postgres', "SELECT count(*) > $ran + 100 FROM effect", 'the new server runs jobs');
stop_clients(@clients);
on($new, q{SELECT count(*) FROM backfill.reschedule_jobs((SELECT array_agg(id) FROM backfill.jobs WHERE payload->>'token' = 'later'), run_at => now());
	SELECT count(*) FROM backfill.complete_jobs((SELECT array_agg(id) FROM backfill.jobs WHERE task_identifier = 'held'))});
wait_until($new, 'postgres', q{SELECT NOT EXISTS (SELECT FROM backfill.job WHERE task_identifier = 'work')}, 'all SQL jobs have ended');
my $last = start_client('consumer', 'the_last', $new->connstr('postgres'), $ledger);
wait_until($new, 'postgres', 'SELECT NOT EXISTS (SELECT FROM backfill.job)', 'all jobs have ended');
stop_clients($last);
ledger_balances($new->connstr('postgres'), $ledger, 'a move by logical replication');
is(on($new, q{SELECT count(*) FROM (SELECT FROM intended WHERE kind <> 'replace' GROUP BY job_id HAVING count(*) > 1) x}), '0', 'no id was issued twice');
is(on($new, q{SELECT count(*) FROM (SELECT FROM completion GROUP BY claim HAVING count(DISTINCT server) > 1) x}), '0', 'no token either');

$_->stop for $new, $old;
check_log($_) for $new, $old;
done_testing();

# The dispatcher works whatever settings the server, the database and the role have for other
# sessions; of the server's own it follows those that are not in its way, also when they change.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('dispatcher_settings', conf => "backfill.poll_interval = '50ms'\nbackfill.dlq_processor_interval = '1s'\nbackfill.executor_idle_timeout = '1s'\n");
create_extension($node);
# For the sessions of the test itself.
$ENV{PGOPTIONS} = join ' ', map { "-c $_" } qw(default_transaction_read_only=off
	role=none lock_timeout=0 search_path=public session_replication_role=origin statement_timeout=0
	idle_session_timeout=0 idle_in_transaction_session_timeout=0);
sub sql { return $node->safe_psql('postgres', @_); }

sql(q{
	CREATE FUNCTION run(payload jsonb) RETURNS void LANGUAGE sql AS '';
	CREATE FUNCTION leave(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); END $$;
	SELECT backfill.register_task('run', 'run(jsonb)');
	SELECT backfill.register_task('leave', 'leave(jsonb)', max_attempts => 1);
	SELECT backfill.register_task('external', max_attempts => 1);
});

# A fresh dispatcher, which has the settings of now.
sub new_dispatcher
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_for_workers($node, 'dispatcher', 'postgres', 1, "$name: a dispatcher");
	my ($old) = worker_pids($node, 'dispatcher');
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($old)");
	return wait_until($node, 'postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'backfill dispatcher' AND pid <> $old", "$name: a new dispatcher");
}

# Assertions: whatever it has to write, it writes; and it has nothing to complain about.
sub works
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	new_dispatcher($name);
	my $position = log_position($node);
	sql('DELETE FROM backfill.dead_letter');
	sql(q{CREATE ROLE gone LOGIN; SELECT backfill.register_task('orphan', 'run(jsonb)', run_as => 'gone'); DROP ROLE gone});
	sql(q{SELECT backfill.enqueue('orphan'), backfill.enqueue('leave'), backfill.enqueue('external')});
	sql(q{SELECT claim_token FROM backfill.claim_jobs('gone', lease => '1 ms')});
	sql(q{UPDATE backfill.job SET attempts = max_attempts WHERE id = (SELECT backfill.enqueue('nameless'))});
	sql(q{SELECT backfill.enqueue('nameless')});
	sql(q{UPDATE backfill.job SET attempts = max_attempts WHERE task_identifier = 'nameless'});
	wait_until($node, 'postgres', q{SELECT string_agg(DISTINCT task_identifier, ' ' ORDER BY task_identifier) FROM backfill.dead_letter}, "$name: it charges, ends leases, buries", 'external leave nameless orphan');
	sql(q{SELECT backfill.enqueue('run')});
	wait_until($node, 'postgres', q{SELECT count(*) FROM backfill.job}, "$name: jobs run", 0);
	return is(join("\n", log_lines($node, qr/backfill could not|read-only transaction/, $position)), '', "$name: nothing to complain about");
}

my %hostile = (
	default_transaction_read_only => 'on',
	default_transaction_isolation => 'serializable',
	default_transaction_deferrable => 'on',
	session_replication_role => 'replica',
	search_path => 'nowhere',
	lock_timeout => '1ms',
	statement_timeout => '1ms',
	idle_in_transaction_session_timeout => '1ms',
	idle_session_timeout => '1ms',
);
works('no settings');
for my $whose ('DATABASE postgres', 'ROLE CURRENT_USER', 'ROLE ALL')
{
	sql(join '; ', map { "ALTER $whose SET $_ = '$hostile{$_}'" } grep { !/statement_timeout/ } sort keys %hostile);
	works("settings of $whose");
	sql("ALTER $whose RESET ALL");
}
delete @hostile{qw(statement_timeout lock_timeout idle_session_timeout search_path session_replication_role)};
sql("ALTER SYSTEM SET $_ = '$hostile{$_}'") for sort keys %hostile;
$node->reload;
works('settings of the server');
sql('ALTER SYSTEM RESET ALL');
$node->reload;

# A role that may do nothing, set in the superuser's sessions.
sql(q{CREATE ROLE weak; ALTER ROLE CURRENT_USER SET role = weak});
works('another role');
sql(q{ALTER ROLE CURRENT_USER RESET ALL});

# What the log gets is for the server's settings to say, and these may change.
sql(q{ALTER ROLE CURRENT_USER SET log_min_messages = panic; CREATE ROLE nologin LOGIN; GRANT nologin TO CURRENT_USER});
sql(q{SELECT backfill.register_task('held', 'run(jsonb)', run_as => 'nologin')});
new_dispatcher('log_min_messages');
sql(q{REVOKE CONNECT ON DATABASE postgres FROM PUBLIC});
my $position = log_position($node);
sql(q{SELECT backfill.enqueue('held')});
ok($node->wait_for_log(qr/WARNING: .*backfill could not start an executor as role "nologin"/, $position), 'log_min_messages of the role does not silence it');
my ($dispatcher) = worker_pids($node, 'dispatcher');
sql(q{ALTER SYSTEM SET log_min_messages = 'fatal'});
$node->reload;
wait_until($node, 'postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'backfill dispatcher' AND pid <> $dispatcher", 'a reload gives it the new values of the server');
sql(q{ALTER ROLE CURRENT_USER RESET ALL; GRANT CONNECT ON DATABASE postgres TO PUBLIC; ALTER SYSTEM RESET ALL});
$node->reload;
wait_until($node, 'postgres', q{SELECT count(*) FROM backfill.job}, 'the role can log in again', 0);
new_dispatcher('no settings again');
($dispatcher) = worker_pids($node, 'dispatcher');
sql(q{ALTER SYSTEM SET work_mem = '5MB'});
$node->reload;
works('after a reload');

$node->stop;
check_log($node);
done_testing();

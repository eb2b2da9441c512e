# The audit log with workers: what a handler does in an executor is noted as its role's, with the job; the
# dispatcher does nothing that is noted, and deletes old rows by batches, also where the table's owner
# refuses some; a session that dies leaves nothing; a restore has the log as it was.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('audit', conf => "backfill.dlq_processor_interval = '1s'\nbackfill.poll_interval = '50ms'\n");
create_extension($node);
sub sql { return $node->safe_psql('postgres', @_); }

sql(q{
	CREATE ROLE operator LOGIN;
	SELECT backfill.grant_admin('operator');
	CREATE FUNCTION clean(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT backfill.cancel_job((payload ->> 'job')::bigint) $$;
	GRANT EXECUTE ON FUNCTION clean(jsonb) TO operator;
	SELECT backfill.register_task('clean', 'clean(jsonb)', run_as => 'operator'), backfill.register_task('outside'), backfill.register_task('scheduled');
	SELECT backfill.schedule('each minute', '* * * * *', 'scheduled');
	DELETE FROM backfill.audit_log;
});
my $victim = sql(q{SELECT backfill.enqueue('outside', run_at => '2100-01-01')});
my $job = sql(qq{SELECT backfill.enqueue('clean', '{"job": $victim}')});
wait_until($node, 'postgres', q{SELECT count(*) FROM backfill.audit}, 'the executor has noted what the handler did', 1);
is(sql('SELECT actor, role, action, objects, job_id, application_name IS NOT NULL, client_addr IS NULL FROM backfill.audit'),
	"operator|operator|cancel_job|{$victim}|$job|t|t", 'as that of the role that runs the task, with the job');

# What the dispatcher does by itself: a job without attempts, a lease that is over, an old letter, a schedule.
$node->append_conf('postgresql.conf', "backfill.dlq_retention = '1h'\n");
$node->reload;
sql(q{
	SELECT backfill.enqueue('outside', run_at => '2100-01-01', max_attempts => 1), backfill.enqueue('outside', '"leased"', max_attempts => 1);
	SELECT count(*) FROM backfill.claim_jobs('w', tasks => '{outside}', lease => '1 ms');
	UPDATE backfill.job SET attempts = 1 WHERE task_identifier = 'outside' AND payload <> '"leased"';
	UPDATE backfill.cron_schedule SET checked_until = now() - interval '5 minutes', known_since = now() - interval '5 minutes';
});
wait_until($node, 'postgres', q{SELECT count(*) >= 2 FROM backfill.dlq}, 'the dispatcher has made dead letters');
sql(q{UPDATE backfill.dead_letter SET failed_at = now() - interval '2 hours'});
wait_until($node, 'postgres', q{SELECT NOT EXISTS (SELECT FROM backfill.dlq WHERE failed_at < now() - interval '1 hour')}, 'and deleted old ones');
is(sql('SELECT count(*) FROM backfill.audit'), 1, 'nothing of that is noted');

# A session that dies before its commit leaves no row.
my $session = $node->background_psql('postgres');
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$session->query_safe(q{BEGIN; SELECT backfill.set_queue('lost', 1)});
sql("SELECT pg_terminate_backend($pid)");
wait_until($node, 'postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)", 'the session is gone');
eval { $session->quit };
is(sql(q{SELECT count(*) FROM backfill.audit WHERE objects = '{lost}'}), 0, 'a call that was not committed is not noted');

# A dump and its restore: the same log, and ids go on after it.
sql(q{INSERT INTO backfill.error_rule (sqlstate, decision) VALUES ('08', 'permanent')});
my $log = sql('SELECT string_agg(l::text, E\'\n\' ORDER BY l.id) FROM backfill.audit_log l');
my $dump = "$PostgreSQL::Test::Utils::tmp_check/audit.dump";
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'the database is dumped');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $dump ], '... and restored');
is($node->safe_psql('restored', 'SELECT string_agg(l::text, E\'\n\' ORDER BY l.id) FROM backfill.audit_log l'), $log, 'the log is the same, without a row for the rules that were read in');
is($node->safe_psql('restored', q{SELECT backfill.set_queue('next', 1); SELECT id = (SELECT max(id) FROM backfill.audit) AND count(*) OVER (PARTITION BY id) = 1 FROM backfill.audit WHERE objects = '{next}'}), "\nt", 'the next id is a new one');
$node->safe_psql('postgres', 'DROP DATABASE restored WITH (FORCE)');

# Retention: a year of rows, more than go at a time. The newest stay.
sql(q{
	INSERT INTO backfill.audit_log (at, actor, role, action, kind, count, objects)
	SELECT now() - n * interval '1 hour', 'x', 'x', 'pause_queue', 'queue', 1, '{q}' FROM generate_series(1, 8760) n
});
wait_until($node, 'postgres', q{SELECT count(*) FROM backfill.audit WHERE actor = 'x' AND at < now() - interval '90 days'}, 'rows of more than 90 days are deleted', 0);
cmp_ok(sql(q{SELECT count(*) FROM backfill.audit WHERE actor = 'x'}), '>=', 2158, 'those of the last 90 days stay');
# 0: for ever. A pass that has deleted an old letter has come by the log, too.
sub retention_passes
{
	sql(q{UPDATE backfill.dead_letter SET failed_at = now() - interval '2 hours' WHERE id = backfill.add_to_dlq(backfill.enqueue('outside', run_at => '2100-01-01'), 'old')});
	wait_until($node, 'postgres', q{SELECT NOT EXISTS (SELECT FROM backfill.dlq WHERE failed_at < now() - interval '1 hour')}, 'housekeeping goes on');
	return;
}
$node->append_conf('postgresql.conf', "backfill.audit_retention = 0\n");
$node->reload;
wait_until($node, 'postgres', q{SELECT current_setting('backfill.audit_retention') = '0'}, 'the setting is read');
sql(q{UPDATE backfill.audit_log SET at = now() - interval '20 years' WHERE actor = 'x'});
retention_passes() for 1 .. 2;
cmp_ok(sql(q{SELECT count(*) FROM backfill.audit WHERE actor = 'x'}), '>=', 2158, '0 keeps them for ever');
# The owner's trigger refuses: that step is set aside and said, all others go on; then it is done.
sql(q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''evidence''; END';
	CREATE TRIGGER refuse BEFORE DELETE ON backfill.audit_log FOR EACH ROW EXECUTE FUNCTION refuse();
});
my $position = log_position($node);
$node->append_conf('postgresql.conf', "backfill.audit_retention = '30d'\n");
$node->reload;
ok($node->wait_for_log(qr/could not delete old rows of the audit log: .*evidence/, $position), 'the log says what could not be done');
retention_passes() for 1 .. 2;
cmp_ok(sql(q{SELECT count(*) FROM backfill.audit WHERE actor = 'x'}), '>=', 2158, 'the rows are still there');
sql('DROP TRIGGER refuse ON backfill.audit_log');
wait_until($node, 'postgres', q{SELECT count(*) FROM backfill.audit WHERE actor = 'x'}, 'they are deleted when nothing refuses that', 0);

$node->stop;
done_testing();

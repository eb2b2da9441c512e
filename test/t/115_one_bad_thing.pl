# One thing that cannot be done does not stop the dispatcher from doing the others: with any one
# trouble, jobs that need the dispatcher run, health() names the trouble, and when it is gone the one
# thing is done, too.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('one_bad_thing', conf => "backfill.poll_interval = '50ms'\nbackfill.dlq_processor_interval = '1s'\nbackfill.dlq_retention = '1h'\nbackfill.executor_idle_timeout = '1s'\nrestart_after_crash = on\n");
create_extension($node);
$node->safe_psql('postgres', q{
	CREATE TABLE ran (what text);
	CREATE FUNCTION run(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO ran VALUES (payload->>'what') $$;
	CREATE FUNCTION leave(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); END $$;
	CREATE ROLE other LOGIN;
	GRANT ALL ON ran TO other;
	SELECT backfill.register_task('other', 'run(jsonb)', run_as => 'other');
	SELECT backfill.register_task('leave', 'leave(jsonb)', max_attempts => 1);
	SELECT backfill.register_task('external', max_attempts => 1);
});

sub sql { return $node->safe_psql('postgres', @_); }

# An assertion: jobs of a role that has no executor run, which takes a dispatcher that starts one;
# and a lease that has run out is ended.
my $round = 0;
sub others_go_on
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$round++;
	# First, while there is a dispatcher: without one, a session that claims ends what leases are lost.
	sql(qq{SELECT backfill.enqueue('external', '{"what": "lease $round"}')});
	sql(q{SELECT claim_token FROM backfill.claim_jobs('healthy', lease => '1 ms')});
	sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'backfill executor'});
	wait_for_workers($node, 'executor', 'postgres', 0, "$name: no executor");
	sql(qq{SELECT backfill.enqueue_many('other', array_agg(jsonb_build_object('what', 'round $round'))) FROM generate_series(1, 100)});
	wait_until($node, 'postgres', qq{SELECT count(*) FROM ran WHERE what = 'round $round'}, "$name: others run", 100);
	return wait_until($node, 'postgres', qq{SELECT count(*) FROM backfill.dead_letter WHERE payload->>'what' = 'lease $round'}, "$name: another lease is ended", 1);
}

sub health_says
{
	my ($like, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, 'postgres', qq{SELECT coalesce(detail, '') ~ '$like' FROM backfill.health() WHERE check_name = 'set_aside'}, "$name: health() names it");
}

sub healthy
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, 'postgres', q{SELECT status FROM backfill.health() WHERE check_name = 'set_aside'}, "$name: health() has nothing to say", 'ok');
}

sub letters { my ($where) = @_; return "SELECT count(*) FROM backfill.dead_letter WHERE $where"; }

# A letter that is in the way of whatever buries a job with its key, while `session` keeps its row
# locked.
sub locked_letter
{
	my ($key) = @_;
	sql(qq{INSERT INTO backfill.dead_letter (original_job_id, task_identifier, payload, priority, job_key, max_attempts, failure_reason, failure_count, original_created_at, original_run_at, failed_at)
		SELECT 0, task, '{}', 0, '$key', 1, 'planted', 1, now(), now(), now() FROM unnest('{external,leave}'::text[]) task ON CONFLICT DO NOTHING});
	my $session = $node->background_psql('postgres');
	$session->query_safe(qq{BEGIN; SELECT count(*) FROM (SELECT FROM backfill.dead_letter WHERE job_key = '$key' FOR UPDATE) locked});
	return $session;
}

# --- A lease of a job whose letter a session has locked.

my $session = locked_letter('lease');
my $id = sql(q{SELECT backfill.enqueue('external', '{"what": "the lease"}', job_key => 'lease')});
sql(q{SELECT claim_token FROM backfill.claim_jobs('gone', lease => '1 ms')});
others_go_on('a locked letter');
health_says("lease $id \\(external\\) since .* 55P03 ", 'a locked letter');
is(sql("SELECT count(*) FROM backfill.job WHERE id = $id"), 1, 'a locked letter: the lease is not ended yet');
$session->query_safe('COMMIT');
wait_until($node, 'postgres', letters("original_job_id = $id"), 'a locked letter: the lease is ended when it is free', 1);
$session->quit;
healthy('a locked letter');

# --- A charge of such a job.

$session = locked_letter('charge');
$id = sql(q{SELECT backfill.enqueue('leave', job_key => 'charge')});
health_says("charge $id .* 55P03 ", 'a charge');
others_go_on('a charge');
$session->query_safe('COMMIT');
wait_until($node, 'postgres', letters("original_job_id = $id"), 'a charge: it is made when the letter is free', 1);
$session->quit;
healthy('a charge');

# --- A letter that cannot be written, at once or at the commit.

for my $kind ('BEFORE INSERT ON', 'CONSTRAINT AFTER INSERT ON')
{
	my ($constraint, $when) = $kind =~ /^(CONSTRAINT )?(.*)/;
	my $deferred = $constraint ? 'DEFERRABLE INITIALLY DEFERRED' : '';
	$constraint //= '';
	sql(qq{
		CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN
			IF new.payload ? 'refused' THEN RAISE 'this letter is refused'; END IF; RETURN new; END \$\$;
		CREATE ${constraint}TRIGGER refuse $when backfill.dead_letter $deferred FOR EACH ROW EXECUTE FUNCTION refuse()});
	my $name = $constraint ? 'a letter refused at the commit' : 'a letter refused';
	my $lease = sql(q{SELECT backfill.enqueue('external', '{"refused": 1}')});
	sql(q{SELECT claim_token FROM backfill.claim_jobs('gone', lease => '1 ms')});
	my $charge = sql(q{SELECT backfill.enqueue('leave', '{"refused": 1}')});
	my $exhausted = sql(q{SELECT backfill.enqueue('nameless', '{"refused": 1}')});
	my $exhausted_too = sql(q{SELECT backfill.enqueue('nameless', '{}')});
	sql(qq{UPDATE backfill.job SET attempts = max_attempts WHERE id IN ($exhausted, $exhausted_too)});
	health_says("lease $lease .*this letter is refused", "$name: a lease");
	health_says("charge $charge .*this letter is refused", "$name: a charge");
	health_says("letter $exhausted .*this letter is refused", "$name: a used-up job");
	others_go_on($name);
	wait_until($node, 'postgres', letters("original_job_id = $exhausted_too"), "$name: another used-up job is buried", 1);
	sql('DROP TRIGGER refuse ON backfill.dead_letter');
	wait_until($node, 'postgres', letters("original_job_id IN ($lease, $charge, $exhausted)"), "$name: all are written when nothing refuses them", 3);
	healthy($name);
}

# --- A letter that is old, and a queue that nothing needs, which cannot be deleted.

sub old_letter
{
	my ($harm) = @_;
	return sql(qq{INSERT INTO backfill.dead_letter (original_job_id, task_identifier, payload, priority, max_attempts, failure_reason, failure_count, original_created_at, original_run_at, failed_at)
		VALUES (0, 'old', '{"harm": "$harm"}', 0, 1, 'planted', 1, now(), now(), now() - interval '2 hours') RETURNING id});
}

# Its id. Something must keep its row from being deleted.
sub empty_queue
{
	my ($name) = @_;
	sql(qq{SELECT backfill.enqueue_serial('other', '{"what": "$name"}', '$name')});
	return sql(qq{SELECT id FROM backfill.queue WHERE queue_name = '$name'});
}

$session = $node->background_psql('postgres');
$session->query_safe(q{
	CREATE FUNCTION refuse_deletion() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'this is not deleted'; END $$;
	CREATE TRIGGER refuse BEFORE DELETE ON backfill.dead_letter FOR EACH ROW WHEN (old.payload->>'harm' = 'refuse') EXECUTE FUNCTION refuse_deletion();
	CREATE TRIGGER refuse BEFORE DELETE ON backfill.queue FOR EACH ROW WHEN (old.queue_name = 'kept') EXECUTE FUNCTION refuse_deletion()});
my @kept = (old_letter('refuse'), empty_queue('kept'));
my $other = old_letter('none');
sql(q{SELECT backfill.enqueue_serial('other', '{"what": "another"}', 'another')});
health_says("old letter $kept[0] \\(old\\) since .*this is not deleted", 'an old letter');
health_says("queue $kept[1] \\(kept\\) since .*this is not deleted", 'an empty queue');
wait_until($node, 'postgres', "SELECT (SELECT count(*) FROM backfill.dead_letter WHERE id = $other) + (SELECT count(*) FROM backfill.queue WHERE queue_name = 'another')",
	'others are deleted', 0);
others_go_on('what is not deleted');
is(sql("SELECT (SELECT count(*) FROM backfill.dead_letter WHERE id = $kept[0]) + (SELECT count(*) FROM backfill.queue WHERE id = $kept[1])"), 2, 'these are not');
$session->query_safe('DROP TRIGGER refuse ON backfill.dead_letter; DROP TRIGGER refuse ON backfill.queue');
$session->quit;
wait_until($node, 'postgres', "SELECT (SELECT count(*) FROM backfill.dead_letter WHERE id = $kept[0]) + (SELECT count(*) FROM backfill.queue WHERE id = $kept[1])",
	'until nothing refuses it any more', 0);
healthy('what is not deleted');

# --- A step that fails as a whole.

$session = $node->background_psql('postgres');
$session->query_safe('BEGIN; LOCK TABLE backfill.job_history IN ACCESS EXCLUSIVE MODE');
health_says('step \d+ \(delete old history\) since .* 55P03 ', 'a locked table');
others_go_on('a locked table');
$session->query_safe('COMMIT');
$session->quit;
healthy('a locked table');

# --- What ends the dispatcher, or never returns: a charge, a lease, a used-up job, the claim of a procedure
# whose executor is gone, a step as a whole. Each is ended by the dispatcher, and fires a trigger there.

sql(q{
	CREATE FUNCTION harm() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$ DECLARE
		harmed record := CASE WHEN tg_op = 'DELETE' THEN old ELSE new END;
		how text := to_jsonb(harmed)->'payload'->>'harm';
	BEGIN
		IF (SELECT backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()) <> 'backfill dispatcher' THEN RETURN harmed; END IF;
		IF tg_table_name IN ('job_history', 'queue') THEN SELECT h.how INTO how FROM step_harm h; END IF;
		IF how = 'end' THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); END IF;
		IF how = 'hang' THEN PERFORM pg_sleep(3600); END IF;
		IF how = 'hang on' THEN LOOP BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END IF;
		IF how = 'crash' THEN COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'; END IF;
		RETURN harmed;
	END $$;
	CREATE TABLE step_harm (how text);
	CREATE PROCEDURE stay(payload jsonb) LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_lock_shared(1); PERFORM pg_advisory_unlock_shared(1); INSERT INTO ran VALUES ('stayed'); END $$;
	SELECT backfill.register_task('stay', 'stay(jsonb)');
});
my $gate = $node->background_psql('postgres');

my $on_letters = 'BEFORE INSERT ON backfill.dead_letter';
my $at_commit = 'AFTER INSERT ON backfill.dead_letter DEFERRABLE INITIALLY DEFERRED';
my @harms = (
	[ 'a charge', 'charge', $on_letters, sub { sql(qq{SELECT backfill.enqueue('leave', '{"harm": "$_[0]"}')}) } ],
	[ 'a lease', 'lease', $on_letters, \&lost_lease ],
	[ 'a lease, by a deferred trigger', 'lease', $at_commit, \&lost_lease ],
	[ 'a used-up job', 'letter', $on_letters, sub {
		my $job = sql(qq{SELECT backfill.enqueue('unregistered', '{"harm": "$_[0]"}', run_at => 'tomorrow')});
		sql("UPDATE backfill.job SET attempts = max_attempts WHERE id = $job");
		return $job } ],
	[ 'a claim', 'claim', 'BEFORE INSERT ON backfill.job', sub {
		$gate->query_safe('SELECT pg_advisory_lock(1)');
		my $job = sql(qq{SELECT backfill.enqueue('stay', '{"harm": "$_[0]"}')});
		wait_until($node, 'postgres', "SELECT a.wait_event FROM backfill.workers w JOIN pg_stat_activity a USING (pid) WHERE w.job_id = $job", 'a procedure waits', 'advisory');
		my $pid = sql("SELECT pid FROM backfill.workers WHERE job_id = $job");
		sql("SELECT pg_terminate_backend($pid)");
		wait_until($node, 'postgres', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", 'its executor is gone', 0);
		$gate->query_safe('SELECT pg_advisory_unlock(1)');
		return $job } ],
	[ 'an old letter', 'old letter', 'BEFORE DELETE ON backfill.dead_letter', \&old_letter ],
	[ 'an empty queue', 'queue', 'BEFORE DELETE ON backfill.queue', sub { sql(qq{TRUNCATE step_harm; INSERT INTO step_harm VALUES ('$_[0]')}); return empty_queue('harmful') } ],
	[ 'a step', 'step', 'BEFORE DELETE ON backfill.job_history', sub {
		sql(qq{TRUNCATE step_harm; INSERT INTO step_harm VALUES ('$_[0]');
			INSERT INTO backfill.job_history (job_id, finished_at, keep_until, created_at, priority, attempt, max_attempts, outcome, task_identifier)
			VALUES (-1, now(), now() - interval '1 s', now(), 0, 1, 1, 'completed', 'old')});
		return 6 } ]);

sub lost_lease
{
	my ($how) = @_;
	my $job = sql(qq{SELECT backfill.enqueue('external', '{"harm": "$how"}')});
	sql(q{SELECT claim_token FROM backfill.claim_jobs('gone', lease => '1 ms')});
	return $job;
}

# Until the trigger is dropped it is not done, and all others are; then it is, without a long wait.
sub harmful
{
	my ($harm, $how, $message) = @_;
	my ($what, $kind, $trigger, $make) = @$harm;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $name = "$what, '$how'";
	my ($table) = $trigger =~ /ON (\S+)/;
	my $constraint = $trigger =~ /DEFERRED/ ? 'CONSTRAINT' : '';
	sql("CREATE $constraint TRIGGER harm $trigger FOR EACH ROW EXECUTE FUNCTION harm()");
	my $thing = $make->($how);
	health_says("$kind $thing .*$message", $name);
	others_go_on($name);
	health_says("$kind $thing .*$message", "$name, still");
	sql("DROP TRIGGER harm ON $table");
	$node->reload;
	my $done = $kind eq 'claim' ? q{SELECT count(*) FROM ran WHERE what = 'stayed'}
		: $kind eq 'old letter' ? "SELECT 1 - count(*) FROM backfill.dead_letter WHERE id = $thing"
		: $kind eq 'queue' ? "SELECT 1 - count(*) FROM backfill.queue WHERE id = $thing"
		: $kind eq 'step' ? 'SELECT 1 - count(*) FROM backfill.job_history WHERE job_id = -1' : letters("original_job_id = $thing");
	wait_until($node, 'postgres', $done, "$name: it is done when nothing keeps it any more", 1);
	sql('DELETE FROM ran');
	return healthy($name);
}

my $deadly = 'this has ended the dispatcher \\d+ times, and waits until ';
my $slow = 'it took longer than \\d+ ms';
harmful($_, 'end', $deadly) for @harms;
harmful($_, 'hang', $slow) for @harms;

# A trigger that catches every cancel: in the end the dispatcher ends itself.
harmful($harms[1], 'hang on', $deadly);

# Several things that never return, tried in one pass again and again: health() says that the dispatcher
# does not get on. Each reload has them tried at once, with a longer limit.
for my $harm (@harms[1, -1])
{
	my (undef, undef, $trigger, $make) = @$harm;
	sql("CREATE TRIGGER harm $trigger FOR EACH ROW EXECUTE FUNCTION harm()");
	$make->('hang');
}
try_until('several things that never return: health() says it of the dispatcher', sub {
	my $seen = sql(q{SELECT pg_reload_conf(); SELECT status || ': ' || detail FROM backfill.health() WHERE check_name = 'dispatcher'});
	return ($seen =~ /warning: process \d+ has been looking for work since \d{4}-/, $seen) });
sql("DROP TRIGGER harm ON $_") for 'backfill.dead_letter', 'backfill.job_history';
$node->reload;
healthy('several things that never return');
wait_until($node, 'postgres', q{SELECT status FROM backfill.health() WHERE check_name = 'dispatcher'}, 'and it gets on', 'ok');

# --- The same with a crash of the server each time, which does not forget it.

$gate->quit;
my $lease = $harms[1];
my $position = log_position($node);
sql("CREATE TRIGGER harm $on_letters FOR EACH ROW EXECUTE FUNCTION harm()");
$id = sql(q{SELECT backfill.enqueue('external', '{"harm": "crash"}', run_at => now() + interval '1 hour')});
# Claimed once only: without a dispatcher the next claim would end the lease, and nothing harms that.
try_until('a crash: a consumer loses the lease', sub {
	$node->psql('postgres', qq{SELECT state IN ('scheduled', 'ready') AS waits FROM backfill.jobs WHERE id = $id \\gset
		\\if :waits
		SELECT count(*) FROM backfill.reschedule_jobs(ARRAY[$id]::bigint[], now());
		SELECT claim_token FROM backfill.claim_jobs('gone', lease => '1 ms');
		\\endif});
	return scalar log_lines($node, qr/was terminated by signal 9/, $position) });
health_says("lease $id .*$deadly", 'a crash');
try_until('a crash: the trigger is dropped between two', sub { return $node->psql('postgres', 'DROP TRIGGER IF EXISTS harm ON backfill.dead_letter') == 0 });
$node->reload;
wait_until($node, 'postgres', letters("original_job_id = $id"), 'a crash: the lease is ended then', 1);
healthy('a crash');

# --- The log says each trouble once, or a few times, not with every try.

cmp_ok(scalar(log_lines($node, qr/backfill could not .*this letter is refused/)), '<=', 3 * 2 * 3, 'the log does not repeat itself');

$node->stop;
check_log($node, crashes => 1);
done_testing();

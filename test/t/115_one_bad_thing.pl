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

my $node = preloaded('one_bad_thing', conf => "backfill.poll_interval = '50ms'\nbackfill.dlq_processor_interval = '1s'\nbackfill.executor_idle_timeout = '1s'\n");
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
	sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'backfill executor'});
	wait_for_workers($node, 'executor', 'postgres', 0, "$name: no executor");
	sql(qq{SELECT backfill.enqueue_many('other', array_agg(jsonb_build_object('what', 'round $round'))) FROM generate_series(1, 100)});
	wait_until($node, 'postgres', qq{SELECT count(*) FROM ran WHERE what = 'round $round'}, "$name: others run", 100);
	sql(qq{SELECT backfill.enqueue('external', '{"what": "lease $round"}')});
	sql(q{SELECT claim_token FROM backfill.claim_jobs('healthy', lease => '1 ms')});
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

# --- A step that fails as a whole.

$session = $node->background_psql('postgres');
$session->query_safe('BEGIN; LOCK TABLE backfill.job_history IN ACCESS EXCLUSIVE MODE');
health_says('step \d+ \(delete old history\) since .* 55P03 ', 'a locked table');
others_go_on('a locked table');
$session->query_safe('COMMIT');
$session->quit;
healthy('a locked table');

# --- A charge that ends the dispatcher.

my $position = log_position($node);
sql(q{
	CREATE FUNCTION end_dispatcher() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF new.payload ? 'deadly' THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); END IF; RETURN new; END $$;
	CREATE TRIGGER deadly BEFORE INSERT ON backfill.dead_letter FOR EACH ROW EXECUTE FUNCTION end_dispatcher()});
$id = sql(q{SELECT backfill.enqueue('leave', '{"deadly": 1}')});
health_says("charge $id .*this has ended the dispatcher \\d+ times, and waits until ", 'a deadly charge');
others_go_on('a deadly charge');
sql('DROP TRIGGER deadly ON backfill.dead_letter');
wait_until($node, 'postgres', letters("original_job_id = $id"), 'a deadly charge: it is made later', 1);
healthy('a deadly charge');

# --- The log says each trouble once, or a few times, not with every try.

cmp_ok(scalar(log_lines($node, qr/backfill could not .*this letter is refused/)), '<=', 3 * 2 * 3, 'the log does not repeat itself');

$node->stop;
check_log($node);
done_testing();

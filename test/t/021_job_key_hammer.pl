# Many sessions hammer a few keys in every mode while executors run the jobs: no error, no
# deadlock, never two waiting jobs with one key, and no session's last word is lost. BACKFILL_HAMMER_SECONDS
# (10) says for how long.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = $ENV{BACKFILL_HAMMER_SECONDS} // 10;
my $node = preloaded('hammer');
create_extension($node);
$node->safe_psql('postgres', q{
	-- Every call, with a number that orders the calls of one key, and every payload that ran.
	CREATE SEQUENCE stamp;
	CREATE TABLE call (key text, mode text, stamp bigint, id bigint);
	CREATE TABLE ran (key text, stamp bigint);
	CREATE FUNCTION work(payload jsonb) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO ran VALUES (payload->>'key', (payload->>'stamp')::bigint) $$;
	SELECT backfill.register_task('work', 'work(jsonb)');
	CREATE FUNCTION hammer(k int, m int) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		s bigint;
		the_mode text := (ARRAY['replace', 'preserve_run_at', 'unsafe_dedupe'])[m];
		made bigint;
	BEGIN
		-- The number is drawn under the key's lock, so numbers and calls have one order.
		PERFORM backfill._lock_job_keys(ARRAY['key ' || k]);
		s := nextval('stamp');
		SELECT j.id INTO made FROM backfill.add_job('work', json_build_object('key', 'key ' || k, 'stamp', s),
			job_key => 'key ' || k, job_key_mode => the_mode) j;
		INSERT INTO call VALUES ('key ' || k, the_mode, s, made);
	END $$});
my $bench = start_pgbench($node, 'postgres', q{
\set k random(1, 50)
\set m random(1, 3)
\set end random(1, 10)
BEGIN;
SELECT hammer(:k, :m);
\if :end = 1
ROLLBACK;
\else
COMMIT;
\endif
}, '-c', 32, '-T', $seconds);

my $most = 0;
my $looks = 0;
while ($bench->{run}->pumpable && $looks < 200)
{
	# Two rows may carry a key only while the older one runs.
	my $n = $node->safe_psql('postgres', q{
		SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM backfill.jobs WHERE state <> 'running' AND job_key IS NOT NULL GROUP BY job_key) w});
	$most = $n if $n > $most;
	$looks++;
	$bench->{run}->pump_nb;
}
is(finish_pgbench($bench), 0, 'no call fails');
unlike($bench->{err}, qr/ERROR|deadlock/, 'the calls raise no error and no deadlock');
cmp_ok($most, '<=', 1, "never two waiting jobs with one key ($looks looks)");
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'all jobs have ended');
is($node->safe_psql('postgres', 'SELECT count(*) FROM call WHERE id IS NULL'), 0, 'no call returned NULL');
is($node->safe_psql('postgres', 'SELECT count(*) FROM backfill.dlq'), 0, 'no job died');
# The last replace or preserve_run_at of a key ran: nothing later could have replaced it.
is( $node->safe_psql('postgres', q{
		SELECT count(*) FROM (SELECT key, max(stamp) AS stamp FROM call WHERE mode <> 'unsafe_dedupe' GROUP BY key) l
		 WHERE NOT EXISTS (SELECT FROM ran r WHERE r.key = l.key AND r.stamp = l.stamp)}),
	0, 'the last word about every key was run');
is($node->safe_psql('postgres', 'SELECT count(*) FROM (SELECT stamp FROM ran GROUP BY stamp HAVING count(*) > 1) t'),
	0, 'no payload ran twice');
is($node->safe_psql('postgres', 'SELECT count(*) FROM ran r WHERE NOT EXISTS (SELECT FROM call c WHERE c.stamp = r.stamp)'),
	0, 'nothing ran that was rolled back');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM ran'), '>', 100, 'jobs ran meanwhile');
$node->stop;
check_log($node);
done_testing();

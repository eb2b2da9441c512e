# Names and texts that are not ASCII, in databases that sort by ICU's rules or have the encoding LATIN1:
# tasks, queues, keys, hooks' reasons and metrics' labels come back as they went in.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

# psql would take the database's encoding as its own.
$ENV{PGCLIENTENCODING} = 'UTF8';
my $node = preloaded('names', conf => "backfill.max_executors = 2\nbackfill.cron_clock = external\n");
my %databases = (latin1 => "ENCODING 'LATIN1' LOCALE 'C'");
$databases{icu} = "ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'de-u-kf-upper-ks-level2' LOCALE 'C'"
  if $node->safe_psql('postgres', q{SELECT count(*) > 0 FROM pg_collation WHERE collprovider = 'i'}) eq 't';

for my $db (sort keys %databases)
{
	$node->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE template0 $databases{$db}");
	create_extension($node, $db);
	$node->safe_psql(
		$db, q{
		CREATE TABLE seen (job_key text, queue_name text, text text);
		CREATE FUNCTION "grüße"(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO seen SELECT j.job_key, j.queue_name, $1->>'text' FROM backfill.current_job() j;
			IF $1 ? 'error' THEN
				RAISE EXCEPTION USING message = $1->>'error', errcode = '22000';
			END IF;
		END $$;
		SELECT backfill.register_task('grüße', '"grüße"(jsonb)', queue_name => 'Straße', notify_channel => 'fräulein');
		SELECT backfill.pause_queue('Straße'), backfill.pause_queue('straße'), backfill.pause_queue('öl'), backfill.pause_queue('Z');
		SELECT backfill.enqueue('grüße', '{"text": "é"}', job_key => 'é'), backfill.enqueue('grüße', '{"text": "É"}', job_key => 'É'),
			backfill.enqueue('grüße', '{"text": "ê"}', 'straße', job_key => 'ê'), backfill.enqueue('grüße', '{"text": "first"}', 'öl', job_key => 'ö');
		SELECT backfill.enqueue('grüße', '{"text": "second"}', 'öl', job_key => 'ö'), backfill.enqueue('grüße', '{"text": "none"}', 'Z', job_key => 'no');
		SELECT backfill.enqueue_serial('grüße', '{"text": "ü", "error": "böse"}', 'Müller', 'ü')});
	# Names that only a language's rules take for equal, or put in another order, are different ones.
	is($node->safe_psql($db, q{SELECT string_agg(queue_name || ' ' || ready, ', ' ORDER BY queue_name COLLATE "C") FROM backfill.queues WHERE paused}),
		'Straße 2, Z 1, straße 1, öl 1', "$db: each queue has its jobs");
	is($node->safe_psql($db, q{SELECT count(*) FROM backfill.jobs WHERE job_key = 'ö' AND payload->>'text' = 'second'}), 1, '... a key is found again');
	like($node->safe_psql($db, q{SELECT backfill.why_not_running(id) FROM backfill.jobs WHERE job_key = 'ê'}), qr/queue "straße" is paused/, '... an answer names the queue');
	is($node->safe_psql($db, q{SELECT count(*) FROM backfill.remove_job('no')}), 1, '... a job is removed by its key, with the queue beside it');
	$node->safe_psql($db, q{SELECT backfill.resume_queue(queue_name) FROM backfill.queues WHERE paused});
	wait_until($node, $db, q{SELECT string_agg(job_key || ' ' || queue_name || ' ' || text, ', ' ORDER BY job_key COLLATE "C") FROM seen},
		'... executors run them', 'É Straße É, é Straße é, ê straße ê, ö öl second');
	# The dead letter queue.
	wait_until($node, $db, q{SELECT string_agg(failure_reason, ',') FROM backfill.dlq}, '... a failed one becomes a dead letter', 'permanent error 22000: böse');
	is($node->safe_psql($db, q{SELECT string_agg(queue_name || ' ' || job_key, ', ') FROM backfill.list_dlq_jobs('grüße', 'Müller')}), 'Müller ü', '... which is found by task and queue');
	is($node->safe_psql($db, q{SELECT count(*) FROM backfill.list_dlq_jobs('gruße', 'Müller')}), 0, '... and not by others');
	$node->safe_psql($db, q{SELECT backfill.update_dlq_job(id, '{"text": "ß"}') FROM backfill.dlq});
	is($node->safe_psql($db, q{SELECT count(*) FROM backfill.requeue_dlq_jobs('grüße', 'Müller')}), 1, '... and requeued');
	wait_until($node, $db, q{SELECT count(*) = 1 FROM seen WHERE text = 'ß' AND job_key = 'ü' AND queue_name = 'Müller'}, '... and runs');
	# A consumer.
	$node->safe_psql($db, q{SELECT backfill.register_task('außen', max_attempts => 1), backfill.enqueue('außen', '"ä"', 'Öl', job_key => 'ä')});
	is($node->safe_psql($db, q{SELECT task_identifier, payload, queue_name, job_key FROM backfill.claim_jobs('Jürgen', tasks => '{außen}', queues => '{Öl}')}), 'außen|"ä"|Öl|ä', '... a consumer claims by names');
	is($node->safe_psql($db, q{SELECT worker FROM backfill.jobs WHERE task_identifier = 'außen'}), 'Jürgen', '... and has one');
	# Metrics.
	my $metrics = $node->safe_psql($db, 'SELECT backfill.prometheus_metrics()');
	like($metrics, qr/^backfill_jobs_enqueued_total\{task="grüße",queue="öl".*\} [12]$/m, '... metrics have the names');
	like($metrics, qr/queue="Müller"/, '... of all queues');
	$node->safe_psql($db, q{SELECT backfill.schedule('täglich', '@daily', 'grüße')});
	is($node->safe_psql($db, q{SELECT name, task_identifier FROM backfill.schedules}), 'täglich|grüße', '... a schedule, too');
	# A text that the encoding does not have is an error of the caller's.
	next if $db ne 'latin1';
	my ($code, $out, $err) = $node->psql($db, q{SELECT backfill.enqueue('grüße', job_key => 'łódź')});
	like($err, qr/has no equivalent in encoding "LATIN1"/, 'a name that LATIN1 does not have is refused');
	($code, $out, $err) = $node->psql($db, q{SELECT backfill.enqueue('grüße', '{"text": "\u0142"}')});
	# From PostgreSQL 16 on, the JSON parser says it in its own words.
	like($err, qr/has no equivalent in encoding "LATIN1"|could not be translated to the server's encoding LATIN1/, 'and so is a payload that escapes one');
}

$node->stop;
check_log($node);
done_testing();

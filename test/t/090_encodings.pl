# A database has whatever encoding its server was made with: SQL_ASCII where LANG was not set, LATIN1
# where it is old. Executors run its jobs, and the consumers of examples/, in four languages, get names
# as text and give back what is not ASCII as it came.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use Consumers;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('encodings', conf => "backfill.max_executors = 2\n");
# psql would take the database's encoding as its own. A server that is started with it would give it to all.
$ENV{PGCLIENTENCODING} = 'UTF8';
build_consumers() or BAIL_OUT('see test/lib/setup.sh test');

for my $encoding (qw(SQL_ASCII LATIN1))
{
	my $db = lc $encoding;
	$node->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE template0 ENCODING '$encoding' LOCALE 'C'");
	create_extension($node, $db);
	create_examples($node, $db);

	$node->safe_psql(
		$db, q{
		CREATE TABLE seen (text text);
		CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO seen VALUES (payload->>'text');
			IF payload ? 'error' THEN
				RAISE EXCEPTION USING message = payload->>'error', errcode = '22000';
			END IF;
		END $$;
		SELECT backfill.register_task('note', 'note(jsonb)');
		SELECT backfill.enqueue_fast('note', '{"text": "grün"}'), backfill.enqueue_fast('note', '{"error": "böse"}')});
	wait_until($node, $db, q{SELECT (SELECT string_agg(text, ',') FROM seen) || '|' || (SELECT failure_reason FROM backfill.dlq)},
		"$encoding: executors run jobs, and keep an error's text", 'grün|permanent error 22000: böse');

	$node->safe_psql($db, q{SELECT backfill.register_task(t, max_attempts => 1) FROM unnest('{count_words,shout}'::text[]) t});
	for my $language (qw(bash cpp node python))
	{
		# It asks for its own encoding.
		my $consumer = do { delete local $ENV{PGCLIENTENCODING}; start_consumer($node, $language, PGDATABASE => $db, CONCURRENCY => 1) };
		my $done = $node->safe_psql($db, q{SELECT backfill.enqueue('shout', '{"text": "à la carte"}')});
		# Some have a capital à.
		wait_until($node, $db, "SELECT replace(result, 'À', 'à') FROM examples.result WHERE job_id = $done", "$encoding, $language: text comes and goes", 'à LA CARTE')
		  or diag consumer_log($consumer);
		is(end_consumer($consumer), 0, "$encoding, $language: the consumer ends in an orderly way");
	}
}

$node->stop;
check_log($node);
done_testing();

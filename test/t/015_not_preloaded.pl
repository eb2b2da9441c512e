# Without shared_preload_libraries there are no workers; all else works.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('plain');
$node->start;
my ($code, undef, $notice) = $node->psql('postgres', 'CREATE EXTENSION backfill');
is($code, 0, 'the extension can be created');
like($notice, qr/WARNING:  backfill is not in shared_preload_libraries.*HINT:.*process_available_jobs/s,
	'a warning says that nothing runs by itself, and what to do');
$node->safe_psql(
	'postgres', q{
	CREATE TABLE done (what text);
	CREATE FUNCTION work(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO done VALUES (payload->>'what') $$;
	SELECT backfill.register_task('work', 'work(jsonb)');
	SELECT backfill.enqueue('work', '{"what": "one"}'), backfill.enqueue_serial('work', '{"what": "two"}', 'serial')});
is($node->safe_psql('postgres', q{SELECT string_agg(state, ',') FROM backfill.jobs}), 'ready,ready', 'jobs wait');
is($node->safe_psql('postgres', 'SELECT count(*) FROM backfill.workers'), 0, 'a server without the library preloaded has no workers');
is($node->safe_psql('postgres', q{SELECT o -> 'workers', o #> '{jobs,ready,count}', o #> '{counters,enqueued}' FROM backfill.overview() o}), '[]|2|"0"', 'the overview has no workers and counts nothing');
is($node->safe_psql('postgres', 'CALL backfill.process_available_jobs()'), 2, 'a session runs them');
is($node->safe_psql('postgres', q{SELECT string_agg(what, ',') FROM done}), 'one,two', 'the session runs the jobs in order');

# Two sessions at once share the work and the serial queue.
$node->safe_psql('postgres',
	q{SELECT count(backfill.enqueue_serial('work', to_jsonb(i), 'serial')) FROM generate_series(1, 200) i});
my @counts = run_psqls($node, 'postgres', ('CALL backfill.process_available_jobs();') x 4);
$node->safe_psql('postgres', 'CALL backfill.process_available_jobs()');
is($node->safe_psql('postgres', 'SELECT count(*) FROM done'), 202, 'every job ran once');

# Preloaded at last, the server runs what waits.
$node->safe_psql('postgres', q{SELECT backfill.enqueue('work', '{"what": "left"}')});
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'backfill'\n");
$node->restart;
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM done WHERE what = 'left'}, 'preloaded, the server runs what is left');

# And without the library again, also the extension can go.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
$node->safe_psql('postgres', 'DROP EXTENSION backfill');
is($node->safe_psql('postgres', q{SELECT to_regnamespace('backfill') IS NULL}), 't', 'DROP EXTENSION works without the library');

$node->stop;
check_log($node);
done_testing();

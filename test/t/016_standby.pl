# On a standby nothing runs; at promotion the workers start by themselves.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = preloaded('primary', init => { allows_streaming => 1 }, conf => "backfill.max_executors = 0\n");
create_extension($primary);
$primary->safe_psql(
	'postgres', q{
	CREATE TABLE done (what text);
	CREATE FUNCTION work(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO done VALUES (payload->>'what') $$;
	SELECT backfill.register_task('work', 'work(jsonb)');
	SELECT backfill.enqueue('work', '{"what": "before"}')});
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->append_conf('postgresql.conf', "backfill.max_executors = 2\n");
$standby->start;
$primary->safe_psql('postgres', q{SELECT backfill.enqueue('work', '{"what": "streamed"}')});
$primary->wait_for_catchup($standby);

is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^backfill'}),
	0, 'a standby has no workers');
is($standby->safe_psql('postgres', q{SELECT string_agg(state, ',') FROM backfill.jobs}), 'ready,ready',
	'the views work on a standby');
is($standby->safe_psql('postgres', q{SELECT backfill.prometheus_metrics() ~ 'backfill_queue_depth{queue="bulk",state="ready"} 2'}), 't',
	'the metrics work on a standby');
my ($code, undef, $err) = $standby->psql('postgres', q{SELECT backfill.enqueue('work')});
like($err, qr/cannot execute enqueue\(\) (in a read-only transaction|during recovery)/, 'enqueue is refused');

# The primary dies under load. What has reached the standby is whole: a job there is either done,
# with its effects, or waits.
$primary->safe_psql('postgres', 'CREATE DATABASE load');
create_extension($primary, 'load');
create_workload($primary, 'load');
$primary->safe_psql('postgres', "ALTER SYSTEM SET $_") for ("backfill.databases = 'load'", 'backfill.max_executors = 2');
$primary->reload;
my $gate = close_gate($primary, 'load');
produce($primary, 'load', 1000, '{"ms": 2}');
produce($primary, 'load', 7, '{"gate": true}'); # they wait until the primary has gone
my $bench = start_workload($primary, 'load', 2);
wait_until($standby, 'load', 'SELECT count(*) > 100 FROM effect', 'the standby sees jobs being done');
is($standby->safe_psql('load', 'SELECT count(*) > 0 FROM backfill.jobs'), 't', 'the standby sees jobs that wait');
$primary->stop('immediate');
finish_pgbench($bench);
open_gate($gate);
$standby->promote;
wait_until($standby, 'postgres', q{SELECT array_agg(what ORDER BY what) = '{before,streamed}' FROM done},
	'after the promotion both jobs run');
$standby->safe_psql('postgres', q{SELECT backfill.enqueue('work', '{"what": "after"}')});
wait_until($standby, 'postgres', q{SELECT count(*) = 3 FROM done}, 'after the promotion new jobs run');
is_exactly_once($standby, 'load', 'the promoted standby');

$standby->stop;
check_log($standby);
done_testing();

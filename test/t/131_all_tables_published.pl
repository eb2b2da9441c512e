# A publication of all tables between two servers that have the extension: each has only rows that
# users made, so the first copy succeeds. The error rules hold on both sides without rows.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = "wal_level = logical\nbackfill.databases = 'nowhere'\n";
my $from = preloaded('publisher', conf => $conf, init => { allows_streaming => 'logical' });
my $to = preloaded('subscriber', conf => $conf, init => { allows_streaming => 'logical' });
create_extension($_) for $from, $to;
$from->safe_psql('postgres', q{
	CREATE FUNCTION run(payload jsonb) RETURNS void LANGUAGE sql AS '';
	SELECT backfill.register_task('run', 'run(jsonb)');
	INSERT INTO backfill.error_rule (sqlstate, decision) VALUES ('08', 'permanent');
	SELECT backfill.enqueue('run', '1');
	CREATE PUBLICATION everything FOR ALL TABLES;
});
# Handlers are found by name.
$to->safe_psql('postgres', q{CREATE FUNCTION run(payload jsonb) RETURNS void LANGUAGE sql AS ''});
my $source = $from->connstr('postgres') =~ s/'/''/gr;
$to->safe_psql('postgres', "CREATE SUBSCRIPTION everything CONNECTION '$source' PUBLICATION everything");
wait_until($to, 'postgres', q{SELECT count(*) > 0 AND bool_and(srsubstate IN ('r', 's')) FROM pg_subscription_rel}, 'all tables are copied');
$from->safe_psql('postgres', q{SELECT backfill.enqueue('run', '2')});
$from->wait_for_catchup('everything');
is($to->safe_psql('postgres', q{SELECT string_agg(payload #>> '{}', ' ' ORDER BY id) FROM backfill.jobs}), '1 2', 'the subscriber has the jobs');
is($to->safe_psql('postgres', q{SELECT backfill.classify_error('08001') || ' ' || backfill.classify_error('22012') || ' ' || backfill.classify_error('40001')}),
	'permanent permanent free_retry', 'the subscriber has the rules');
$_->stop for $to, $from;
done_testing();

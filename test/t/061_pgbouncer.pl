# Consumers behind a pooler in transaction mode, Debian's pgbouncer: no two statements of theirs
# need one server connection, and sessions that wait share what is there. Consumers are killed
# in the middle of it; every job is completed once.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = preloaded('pooled', conf => "backfill.poll_interval = '1h'\n");
create_extension($node);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE done (id bigint, worker text);
	SELECT backfill.register_task('ext', max_attempts => 1000), backfill.register_task('other'), backfill.set_queue('bulk', 1000)});

# --- The pooler, with fewer server connections than there will be clients.

my ($pgbouncer) = grep { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin';
BAIL_OUT('pgbouncer is not installed; test/lib/setup.sh test does that') unless $pgbouncer;
my $dir = PostgreSQL::Test::Utils::tempdir_short();
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $user = $node->safe_psql('postgres', 'SELECT current_user');
append_to_file("$dir/users", qq("$user" ""\n));
append_to_file("$dir/pgbouncer.ini", '[databases]
* = host=' . $node->host . ' port=' . $node->port . "
[pgbouncer]
pool_mode = transaction
default_pool_size = 3
max_client_conn = 50
listen_addr =
listen_port = $port
unix_socket_dir = $dir
auth_type = trust
auth_file = $dir/users
logfile = $dir/log
pidfile = $dir/pid
");
my $pooler = IPC::Run::start([ $pgbouncer, "$dir/pgbouncer.ini" ], '<', \undef, '>&', "$dir/out");
my $pooled = "host=$dir port=$port dbname=postgres";
END { $pooler->kill_kill if $pooler; }

sub start_pooled
{
	my ($sql) = @_;
	my $session = start_program({ in => $sql }, 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $pooled, '-f', '-');
	$session->{run}->pump;
	return $session;
}
try_until(
	'the pooler answers',
	sub {
		my $up = IPC::Run::run([ 'psql', '-XqAtc', 'SELECT 1', '-d', $pooled ], '<', \undef, '>', \my $out, '2>', \my $err);
		return ($up, $err . slurp_file("$dir/out"));
	});

# --- A session waits through it, and a claim made there is completed on another connection.

my $waiting = start_pooled("CALL backfill.wait_for_jobs('1 minute');\n");
wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CALL backfill.wait%' AND state = 'active' AND backend_xmin IS NULL},
	'a session waits through the pooler, without a snapshot');
$node->safe_psql('postgres', q{SELECT backfill.enqueue('ext')});
my ($code, $out, $err) = finish_psql($waiting);
is("$code " . $out . $err, '0 t', 'the session that waits through the pooler is woken');
my $began = start_pooled("BEGIN;\nSELECT pg_backend_pid();\nSELECT id FROM backfill.claim_jobs('first');\nCOMMIT;\n");
is((finish_psql($began))[0], 0, 'a claim in a transaction of the pooler');
is((finish_psql(start_pooled("SELECT backfill.complete_jobs(ARRAY[id], claim_token) FROM backfill.job;\n")))[1], 1, 'completed on another connection');

# --- Eight consumers share a load, which comes in portions; in each of them one is killed.

my ($portions, $portion) = (10, 200);
my $jobs = $portions * $portion;
my $script = join '', map { q{SELECT coalesce(max(id), 0) AS id, coalesce(max(claim_token), 0) AS token FROM backfill.claim_jobs('NAME', lease => '2 s') \gset
INSERT INTO done SELECT c, 'NAME' FROM backfill.complete_jobs(ARRAY[:id], :token) c;
CALL backfill.wait_for_jobs('100 ms');
} } (1 .. 2 * $jobs);
my $name = 0;
sub start_consumer
{
	my $n = ++$name;
	append_to_file("$dir/c$n.sql", $script =~ s/NAME/c$n/gr);
	return start_pooled("\\i $dir/c$n.sql\n");
}
my @consumers = map { start_consumer() } (1 .. 8);
for my $n (1 .. $portions)
{
	# Not all at once, so that most consumers are still busy when one is killed.
	$node->safe_psql('postgres', "SELECT count(*) FROM backfill.enqueue_many('ext', ARRAY(SELECT to_jsonb(n) FROM generate_series(1, $portion) n))");
	my $begun = ($n - 1) * $portion + 20;
	wait_until($node, 'postgres', "SELECT count(*) >= $begun FROM done", "portion $n of the jobs is begun");
	my $victim = shift @consumers;
	$victim->{run}->signal('KILL');
	$victim->{run}->finish;
	push @consumers, start_consumer();
}
wait_until($node, 'postgres', 'SELECT count(*) = 0 FROM backfill.job', 'all jobs that were claimed through the pooler end');
for my $consumer (@consumers)
{
	$consumer->{run}->signal('KILL');
	$consumer->{run}->finish;
}
is(join('', map { $_->{err} } @consumers), '', 'no consumer had an error');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT id) FROM done'), "$jobs|$jobs", 'every job was completed once');
cmp_ok($node->safe_psql('postgres', 'SELECT count(DISTINCT worker) FROM done'), '>', 8, 'successors of consumers that were killed completed jobs, too');
is($node->safe_psql('postgres', 'SELECT total_jobs FROM backfill.dlq_stats()'), 0, 'no job is dead');

$pooler->kill_kill;
undef $pooler;
$node->stop;
check_log($node);
done_testing();

# A node that does not answer: it is slow, its sessions hang, or the whole server does. Calls of it end at the time limit, with an
# error that names it; calls of other nodes, and jobs that can go elsewhere, go on.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use Router;
use PostgreSQL::Test::Utils;
use Test::More;

my @nodes = map { new_node($_, "backfill.max_executors = 0\n") } qw(a b c);
my ($a, $b, $c) = @nodes;
my $router = new_router(@nodes);
sub ask { my ($sql) = @_; return $router->safe_psql('postgres', "SET client_min_messages = error; $sql"); }
sub refusal { my ($sql) = @_; return ($router->psql('postgres', "\\set VERBOSITY verbose\n$sql", on_error_stop => 1))[2]; }
sub status { return ask(q{SELECT string_agg(node || ' ' || status, ',' ORDER BY node) FROM backfill.check_nodes()}); }

# Stop all processes of servers, or only their sessions, until thaw().
my @frozen;
sub freeze
{
	my ($what, @servers) = @_;
	foreach my $server (@servers)
	{
		my $data_dir = $server->data_dir;
		foreach my $process (grep { (readlink "$_/cwd" // '') eq $data_dir } glob '/proc/[0-9]*')
		{
			next if $what eq 'sessions' && slurp_file("$process/cmdline") !~ /^postgres: .* (?:\[local\]|\d+\(\d+\)) /;
			push @frozen, $process =~ /(\d+)$/;
		}
	}
	return kill('STOP', @frozen);
}
sub thaw { kill('CONT', splice @frozen); return; }
END { thaw(); }

is(ask(q{SELECT status FROM backfill.health() WHERE check_name = 'time_limit'}), 'warning', 'health() warns if there is no time limit');
ask(q{SELECT backfill.register_task('t')});
my %key_of = map { split /\|/ } split /\n/, ask(q{SELECT DISTINCT ON (n.name) n.name, 'k' || i FROM generate_series(1, 200) i JOIN backfill.slot s ON s.slot = backfill._slot_of(NULL, 'k' || i) JOIN backfill.node n ON n.number = s.node ORDER BY 1});
# A node that is well must answer within this limit, even on a busy machine.
my $limit = 10;
ask("ALTER DATABASE postgres SET statement_timeout = '${limit}s'; ALTER SERVER backfill OPTIONS (SET query_timeout '$limit')");
is(ask(q{SELECT status FROM backfill.health() WHERE check_name = 'time_limit'}), 'ok', 'then there is one');
sub enqueue { my ($name) = @_; return "SELECT backfill.enqueue('t', job_key => '$key_of{$name}') > 0"; }

# A session with connections to all nodes; what it has to say of a statement, errors included.
sub connected
{
	my $session = $router->background_psql('postgres', on_error_stop => 0);
	$session->query(join '; ', 'SET client_min_messages = error', map { enqueue($_) } qw(a b c));
	return $session;
}
sub said
{
	my ($session, $sql) = @_;
	$session->{stderr} = '';
	my $out = $session->query($sql);
	my $err = $session->{stderr};
	$err =~ s/^.*?(?=ERROR|WARNING)//s;
	return "$out$err";
}

# --- The sessions of a node hang.

my $session = connected();
cmp_ok(freeze('sessions', $a), '>', 0, 'the node has sessions');
like(said($session, enqueue('a')), qr/^ERROR:  node "a" has not answered in time: it may have done it, or not\nDETAIL:  query timeout/, 'a call that is not answered ends');
is(said($session, enqueue('b')), 't', 'the same session calls other nodes');
is(said($session, enqueue('a')), 't', 'and this one by a new connection');
thaw();
is(status(), 'a ok,b ok,c ok', 'it is well');

# --- It is slow: it cancels what it does, so that nothing is done. It may need long for that.

ask(q{ALTER SERVER backfill OPTIONS (SET query_timeout '300')});
my $lock = $a->background_psql('postgres');
$lock->query_safe('BEGIN; LOCK TABLE backfill.job IN ACCESS EXCLUSIVE MODE');
like(said($session, enqueue('a')), qr/^ERROR:  canceled while node "a" was to answer/, 'a call that takes too long is canceled');
is($a->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE query ~ '_routed' AND state = 'active' AND pid <> pg_backend_pid()}), 0, 'also on the node');
is(said($session, enqueue('b')), 't', 'and other nodes are called');
$lock->quit;
$session->quit;
ask("ALTER SERVER backfill OPTIONS (SET query_timeout '$limit')");

# --- The whole server hangs, also for new connections.

freeze('all', $a);
like(refusal(enqueue('a')), qr/ERROR:  57014: canceled while node "a" was to answer: it may have done it, or not/, 'a call that cannot connect ends');
is(ask(enqueue('b')), 't', 'others do not wait');
is(status(), 'a critical,b warning,c warning', 'check_nodes() has waited for it');
is(ask(q{SELECT string_agg(name, ' ') FROM backfill.nodes WHERE silent_since IS NOT NULL}), 'a', 'and remembers');
is(status(), 'a critical,b ok,c ok', 'so that it asks this one last');
is(ask(q{SELECT count(*), count(*) FILTER (WHERE id >> 47 = 1) FROM (SELECT backfill.enqueue('t') AS id FROM generate_series(1, 30)) e}), '30|0', 'jobs that can go elsewhere do not wait for it');
my $others = ask(q{SELECT backfill.enqueue('t', queue_name => 'q' || i) FROM generate_series(1, 20) i JOIN backfill.slot s ON s.slot = backfill._slot_of('q' || i, NULL) WHERE s.node > 1});
like($others, qr/^\d+(\n\d+)+$/, 'nor do queues of other nodes');
like(refusal(q{SELECT backfill.register_task('late')}), qr/ERROR:  57014: canceled while node "a" was to answer/, 'what all nodes must do is an error');
is($_->safe_psql('postgres', q{SELECT count(*) FROM backfill.task WHERE task_identifier = 'late'}), 1, 'and is done on node ' . $_->name) foreach $b, $c;
thaw();
try_until('the node is back', sub { my $status = status(); return ($status eq 'a ok,b ok,c ok', $status) });
is(ask(q{SELECT count(*) FROM backfill.nodes WHERE silent_since IS NOT NULL}), 0, 'and not silent any more');
is(ask(enqueue('a')), 't', 'it is called again');
ask(q{SELECT backfill.register_task('late')});
is(ask(q{SELECT count(*) FROM backfill.tasks WHERE task_identifier = 'late'}), 3, 'and gets what it has missed');

# --- Of two silent nodes one is waited for: the time limit of a statement ends one wait.

$session = connected();
freeze('sessions', $a, $b);
like(said($session, q{SET client_min_messages = warning; SELECT DISTINCT node FROM backfill.jobs}), qr/WARNING:  node "a" has not answered in time.*; its rows are missing.*WARNING:  node "b" was not asked, because the time was up; its rows are missing/s, 'a view warns of both');
thaw();
is(said($session, 'SELECT count(DISTINCT node) FROM backfill.jobs'), 3, 'and shows all when they are back');
$session->quit;

check_log($_) foreach @nodes;
done_testing();

# The walk-through of docs/scale-out.md is run as it stands.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use Router;
use PostgreSQL::Test::Utils;
use Test::More;

my @nodes = map { preloaded("db$_", conf => "backfill.max_executors = 2\n") } 1 .. 3;
my $router = new_server('router');
$router->start;
my $outbox = new_node('outbox');
foreach my $node (@nodes)
{
	$node->safe_psql('postgres', 'CREATE DATABASE app');
}

# Each block says where it is run.
my $guide = slurp_file("$FindBin::RealBin/../../docs/scale-out.md");
foreach my $number (1 .. 3)
{
	my $there = 'host=' . $nodes[ $number - 1 ]->host . ' port=' . $nodes[ $number - 1 ]->port . ' dbname=app';
	$guide =~ s/host=db$number dbname=app/$there/g;
}
my ($host, $port) = ($router->host, $router->port);
$guide =~ s/host 'router', dbname 'router'/host '$host', port '$port', dbname 'postgres'/;
$guide =~ s/DATABASE router /DATABASE postgres /;
my @pieces = $guide =~ /^```psql (\w+)\n(.*?)^```/msg;
my $blocks = @pieces / 2;
foreach my $number (1 .. $blocks)
{
	my ($where, $sql) = @pieces[ 2 * $number - 2, 2 * $number - 1 ];
	foreach my $server ($where eq 'nodes' ? @nodes : $where eq 'router' ? $router : $outbox)
	{
		my ($code, $out, $err) = $server->psql($where eq 'nodes' ? 'app' : 'postgres', $sql, on_error_stop => 1);
		is("$code$err", '0', "block $number runs on " . $server->name);
	}
}
is($blocks, 5, 'that is the whole walk-through');
is($router->safe_psql('postgres', q{SELECT string_agg(name || ' ' || slots, ',' ORDER BY name) FROM backfill.nodes}), 'three 128,two 128', 'two nodes are left, with as many slots');
wait_until($router, 'postgres', q{SELECT string_agg(job_key, ',' ORDER BY job_key) FROM backfill.jobs}, 'the mails that are due are sent, from wherever', 'welcome b');
my $sent = sub { return join ' ', sort map { split /\n/, $_->safe_psql('app', 'SELECT mail FROM sent') } @nodes; };
try_until('also that of the outbox', sub { my $mails = $sent->(); return ($mails eq 'a@example.com c@example.com', $mails) });
done_testing();

# What the TAP tests of backfill_router share: a router before some nodes.
package Router;

use strict;
use warnings FATAL => 'all';

use Backfill;
use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(new_router new_node conninfo on_all start_calls kill_node);

# How the router reaches a node.
sub conninfo
{
	my ($node) = @_;
	return 'host=' . $node->host . ' port=' . $node->port . ' dbname=postgres';
}

sub new_node
{
	my ($name, $conf) = @_;
	my $node = preloaded($name, conf => $conf // '');
	create_extension($node);
	return $node;
}

# A router with these nodes, which have as many slots each. It has no need of the library.
sub new_router
{
	my (@nodes) = @_;
	my $router = new_server('router');
	$router->{fresh_sessions} = 1; # one that stays would tell of each node that it has lost, once
	$router->start;
	$router->safe_psql('postgres', 'CREATE EXTENSION backfill_router CASCADE');
	foreach my $node (@nodes)
	{
		my ($name, $conninfo) = ($node->name, conninfo($node));
		$router->safe_psql('postgres', "SELECT backfill.add_node('$name', '$conninfo')");
	}
	$router->safe_psql('postgres', 'CALL backfill.rebalance()');
	return $router;
}

# A session in the background that runs these statements from now on; ends with finish_psql().
sub start_calls
{
	my ($router, @statements) = @_;
	return start_program({ in => '' }, 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $router->connstr('postgres'),
		map { ('-c', $_) } 'SET client_min_messages = error', @statements);
}

# Kills the postmaster (kill -9), and waits until all processes of the server have noticed and are gone.
sub kill_node
{
	my ($node) = @_;
	my ($pid) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	$node->kill9;
	try_until(
		'the processes of node ' . $node->name . ' are gone',
		sub {
			my @left = grep { (readlink "$_/cwd" // '') eq $node->data_dir } glob '/proc/[0-9]*';
			push @left, $pid if -d "/proc/$pid"; # a zombie counts for the next postmaster
			return (!@left, "@left");
		});
	return;
}

sub on_all
{
	my ($sql, @nodes) = @_;
	$_->safe_psql('postgres', $sql) foreach @nodes;
	return;
}

1;

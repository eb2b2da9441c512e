# What the TAP tests of backfill_router share: a router before some nodes.
package Router;

use strict;
use warnings FATAL => 'all';

use Backfill;
use Exporter 'import';
use PostgreSQL::Test::Cluster;

our @EXPORT = qw(new_router new_node conninfo on_all);

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

sub on_all
{
	my ($sql, @nodes) = @_;
	$_->safe_psql('postgres', $sql) foreach @nodes;
	return;
}

1;

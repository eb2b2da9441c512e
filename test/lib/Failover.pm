# Two servers of which one fails, and the clients of test/ha/load.py, which go on with the other.
package Failover;

use strict;
use warnings FATAL => 'all';

use Backfill;
use Exporter 'import';
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(
  primary_for_load standby_of kill_machine come_back_as_standby
  both_servers start_client stop_clients ledger_events ledger_balances
);

my $load = "$FindBin::RealBin/../ha/load";

# A server with the tables of the load. What it has to keep of its WAL is for pg_rewind.
sub primary_for_load
{
	my ($name, %params) = @_;
	my $node = preloaded($name,
		init => { allows_streaming => $params{wal_level} // 1 },
		conf => "wal_keep_size = '1GB'\nbackfill.max_executors = 3\n" . ($params{conf} // ''));
	create_extension($node);
	$node->safe_psql('postgres', slurp_file("$load.sql"));
	return $node;
}

sub standby_of
{
	my ($primary, $name) = @_;
	$primary->backup("for $name");
	my $standby = Backfill::Server->new($name);
	$standby->init_from_backup($primary, "for $name", has_streaming => 1);
	$standby->start;
	return $standby;
}

# SIGKILL to all processes of a server at once, as if the machine had lost its power; or to its postmaster
# alone, whose children notice and end.
sub kill_machine
{
	my ($node, %params) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $file = $node->data_dir . '/postmaster.pid';
	my ($postmaster) = slurp_file($file) =~ /^(\d+)/;
	kill('STOP', $postmaster); # it starts no more
	my @children = grep { (process_state($_))[1] == $postmaster } map { m{(\d+)} } glob '/proc/[0-9]*';
	kill('KILL', @children) unless $params{postmaster_only};
	$node->kill9;
	try_until('all processes of ' . $node->name . ' have gone', sub {
		my @left = grep { (process_state($_))[0] !~ /[ZX]/ } $postmaster, @children;
		return (@left == 0, "@left");
	});
	# That process may be there still, as one that its parent has not been told of: its locks would be believed.
	my $socket = $node->host . '/.s.PGSQL.' . $node->port;
	unlink $file, $socket, "$socket.lock";
	return;
}

# The state of a process, a letter, and its parent.
sub process_state
{
	my ($pid) = @_;
	open(my $in, '<', "/proc/$pid/stat") or return ('X', 0);
	return (readline($in) // '') =~ /^\d+ \(.*\) (\w) (\d+)/s ? ($1, $2) : ('X', 0);
}

# A primary that was killed follows the one that took its place. What only it had is undone.
sub come_back_as_standby
{
	my ($old, $new) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $conf = slurp_file($old->data_dir . '/postgresql.conf'); # pg_rewind takes the other one's
	# pg_rewind learns from the new one's control file that there is a new timeline.
	$new->safe_psql('postgres', 'CHECKPOINT');
	$old->command_ok([ 'pg_rewind', '--target-pgdata', $old->data_dir, '--source-server', $new->connstr('postgres') ],
		$old->name . ' is rewound');
	unlink $old->data_dir . '/postgresql.conf';
	append_to_file($old->data_dir . '/postgresql.conf', $conf);
	$old->enable_streaming($new);
	$old->start;
	return;
}

# Where clients find whichever of the servers takes writes.
sub both_servers
{
	my (@nodes) = @_;
	return sprintf "host=%s port=%s dbname=postgres target_session_attrs=read-write",
	  join(',', map { $_->host } @nodes), join(',', map { $_->port } @nodes);
}

# It is at work when this returns, so that it knows a request to stop.
sub start_client
{
	my ($kind, $name, $conninfo, $directory) = @_;
	my $client = start_program({ in => '' }, '/usr/bin/python3', "$load.py", $kind, $name, $conninfo, $directory);
	try_until("$name has begun its ledger", sub { return (-e "$directory/$name", $client->{err}); });
	return $client;
}

# Assertions: they end in an orderly way.
sub stop_clients
{
	my (@clients) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$_->{run}->signal('TERM') for @clients;
	for my $client (@clients)
	{
		$client->{timeout}->start;
		$client->{run}->finish;
		is($client->{run}->full_result(0) . $client->{err}, '0', 'a client has had no error that it cannot mend');
	}
	return;
}

# What clients have noted: [what, token, more...].
sub ledger_events
{
	my ($directory) = @_;
	return map { my ($at, @words) = split; \@words } map { split /\n/, slurp_file($_) } glob "$directory/*";
}

# An assertion: what clients were told is what the tables have. The ledger is printed.
sub ledger_balances
{
	my ($conninfo, $directory, $name, @lost) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $check = start_program({ in => '' }, '/usr/bin/python3', "$load.py", 'check', $conninfo, $directory, @lost);
	$check->{run}->finish;
	diag join "\n", map { "ledger: $_" } $name, split /\n/, $check->{out} . $check->{err};
	return is($check->{run}->full_result(0), 0, "$name: the ledger balances");
}

1;

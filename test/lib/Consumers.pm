# The consumers of examples/, as processes that a test starts, kills and looks into.
package Consumers;

use strict;
use warnings FATAL => 'all';

use Backfill;
use Exporter 'import';
use FindBin;
use POSIX qw(WNOHANG);
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(
  build_consumers create_examples start_consumer consumer_log wait_for_consumer_log
  end_consumer kill_consumer has_ended
);

my $examples = "$FindBin::RealBin/../../examples";

# Python is Debian's, because psycopg is.
my %command = (
	python => [ '/usr/bin/python3', "$examples/python/consumer.py" ],
	node => [ 'node', "$examples/node/consumer.mjs" ],
	cpp => ["$examples/cpp/consumer"],
	bash => [ 'bash', "$examples/bash/consumer.sh" ]);
my (%running, %hosts);
my $number = 0;

# An assertion: what needs to be built and installed is.
sub build_consumers
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $ok = IPC::Run::run([ 'make', '-s', '-C', "$examples/cpp" ], '<', \undef, '>', \my $out, '2>', \my $err);
	diag $err unless $ok;
	return ok($ok && -d "$examples/node/node_modules/pg", 'the consumers are built');
}

sub create_examples
{
	my ($node, $db) = @_;
	$node->safe_psql($db // 'postgres', slurp_file("$examples/schema.sql"));
	return;
}

# A consumer in a language; settings are environment variables, PGDATABASE one of them.
sub start_consumer
{
	my ($node, $language, %settings) = @_;
	my $consumer = { language => $language, name => $settings{WORKER} // "$language-" . ++$number, node => $node };
	$consumer->{log} = PostgreSQL::Test::Utils::tempdir() . '/log';
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		%ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres', %settings, WORKER => $consumer->{name});
		$SIG{$_} = 'DEFAULT' for 'INT', 'TERM'; # ignored in what a shell has put into the background
		open STDIN, '<', '/dev/null' or POSIX::_exit(126);
		open STDOUT, '>', $consumer->{log} or POSIX::_exit(126);
		open STDERR, '>&', \*STDOUT or POSIX::_exit(126);
		exec { $command{$language}[0] } @{ $command{$language} } or POSIX::_exit(126);
	}
	$consumer->{pid} = $pid;
	$hosts{ $node->host } = 1;
	$running{$pid} = $consumer;
	return $consumer;
}

# Whether it has ended; its exit status is in {status} then.
sub has_ended
{
	my ($consumer) = @_;
	if (!defined $consumer->{status} && waitpid($consumer->{pid}, WNOHANG) == $consumer->{pid})
	{
		$consumer->{status} = $?;
		delete $running{ $consumer->{pid} };
	}
	return defined $consumer->{status};
}

sub await_end
{
	my ($consumer) = @_;
	my $deadline = time() + $PostgreSQL::Test::Utils::timeout_default;
	until (has_ended($consumer))
	{
		die "$consumer->{name} does not end:\n" . consumer_log($consumer) if time() > $deadline;
		Backfill::pause(0.01);
	}
	return $consumer->{status};
}

# Ends it by a signal, SIGTERM unless told; returns its exit status.
sub end_consumer
{
	my ($consumer, $signal) = @_;
	kill($signal // 'TERM', $consumer->{pid});
	return await_end($consumer);
}

sub kill_consumer { return end_consumer($_[0], 'KILL'); }

sub consumer_log
{
	my ($consumer) = @_;
	return -e $consumer->{log} ? slurp_file($consumer->{log}) : ''; # it may be killed before it has one
}

# An assertion: its log comes to have a line.
sub wait_for_consumer_log
{
	my ($consumer, $pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $deadline = time() + $PostgreSQL::Test::Utils::timeout_default;
	while (time() < $deadline)
	{
		return pass($name) if consumer_log($consumer) =~ $pattern;
		last if has_ended($consumer);
		Backfill::pause(0.01);
	}
	fail($name);
	diag "waited for $pattern; the log has:\n" . consumer_log($consumer);
	die "$name: waited in vain\n";
}

# None outlives its test, nor does what one started that was killed: the environment tells to which
# test a process belongs, because each test's server has a directory of its own.
END
{
	my $status = $?;
	for my $pid (keys %running)
	{
		kill('KILL', $pid);
		waitpid($pid, 0);
	}
	for my $file (%hosts ? glob('/proc/[0-9]*/environ') : ())
	{
		open my $in, '<', $file or next;
		my %environment = map { /^(WORKER|PGHOST)=(.*)/s ? ($1 => $2) : () } split /\0/, do { local $/; <$in> // '' };
		close $in;
		next if !$environment{WORKER} || !$hosts{ $environment{PGHOST} // '' };
		kill('KILL', $file =~ /(\d+)/);
	}
	$? = $status;
}

1;

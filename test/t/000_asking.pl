# What the other tests stand on: their psql answers, also while signals interrupt the test. The framework of
# PostgreSQL 17 has a handler of SIGCHLD, and a child that is stopped and goes on sends that, too.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use POSIX ();
use Test::More;

my $node = preloaded('asking');
my $test = $$;
my $sleeper = fork() // die "fork: $!";
if ($sleeper == 0)
{
	$SIG{TERM} = 'DEFAULT';
	Backfill::pause(0.1) while getppid() == $test;
	POSIX::_exit(0);
}
my $nuisance = fork() // die "fork: $!";
if ($nuisance == 0)
{
	$SIG{TERM} = 'DEFAULT';
	while (getppid() == $test && kill('STOP', $sleeper) && kill('CONT', $sleeper)) { Backfill::pause(0.001); }
	POSIX::_exit(0);
}
END { kill('KILL', grep { defined } $nuisance, $sleeper) if $$ == $test; }

my $signals = 0;
local $SIG{CHLD} = sub { $signals++ };
for my $call (1 .. 30)
{
	is(eval { $node->safe_psql('postgres', "SET work_mem = '1MB'; SELECT count(*), $call FROM generate_series(1, 20000)") } // $@, "20000|$call", "answer $call");
}
cmp_ok($signals, '>', 0, 'signals have interrupted the test');
wait_until($node, 'postgres', 'SHOW work_mem', 'it waits for an answer, and the session was reset', '4MB');

kill('KILL', $nuisance, $sleeper);
waitpid($_, 0) foreach $nuisance, $sleeper;
$node->stop;
check_log($node);
done_testing();

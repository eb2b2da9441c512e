# What a newcomer pastes first works as it is printed: the README's quick start, and what the demo
# proposes for home, with executors that run the jobs in the background. And what the guides name as
# installed is.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $node = preloaded('first_steps', conf => "backfill.max_executors = 0\n");

my ($quick_start) = slurp_file("$top/README.md") =~ /^## Quick start\n\n```sql\n(.*?)^```$/ms;
ok($quick_start, 'the README has a quick start');
$node->safe_psql('postgres', 'CREATE DATABASE readme');
create_extension($node, 'readme');
# Executors come when it waits for its job, however fast the machine is.
my $pasted = start_psql($node, 'readme', $quick_start);
$pasted->{run}->pump;
wait_until($node, 'readme', q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%backfill.await_job%' AND pid <> pg_backend_pid() AND state = 'active'},
	'it waits for its job', 1);
$node->append_conf('postgresql.conf', 'backfill.max_executors = 2');
$node->reload;
my ($code, $out, $err) = finish_psql($pasted);
is("$code $err", '0 ', 'the README\'s quick start runs');
like($out, qr/^a\@b\.c\|/m, 'the quick start shows what the job has done');

($code, $out, $err) = finish_psql(start_psql($node, 'postgres', slurp_file("$top/demo/at_home.sql")));
is("$code $err", '0 ', 'what the demo proposes runs');
like($out, qr/^hello, world$/m, 'the demo\'s proposal shows what the job has done');

chomp(my $share = `"$ENV{PG_CONFIG}" --sharedir`);
for my $file (map { m{([^/]+)$} } glob "$top/share/*")
{
	ok(-r "$share/extension/$file", "$file is installed");
}

$node->stop;
check_log($node);
done_testing();

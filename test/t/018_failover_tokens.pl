# An asynchronous standby that is promoted without the primary's last claims issues none of their tokens again.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = preloaded('primary', init => { allows_streaming => 1 }, conf => "backfill.max_executors = 1\n");
create_extension($primary);
$primary->safe_psql(
	'postgres', q{
	CREATE TABLE seen (token bigint, headers jsonb);
	CREATE PROCEDURE look(payload jsonb) LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO seen SELECT j.claim_token, (backfill.current_job()).headers FROM backfill.job j WHERE j.id = (backfill.current_job()).id;
		COMMIT;
		PERFORM backfill.enqueue('followup');
	END $$;
	SELECT backfill.register_task('look', 'look(jsonb)'), backfill.register_task('external');
	SELECT count(*) FROM backfill.enqueue_many('external', (SELECT array_agg(to_jsonb(g)) FROM generate_series(1, 300) g), 'unlimited')});

# Claims one job each, and returns "id token" of each.
sub claim
{
	my ($node, $count) = @_;
	return split /\n/, $node->safe_psql('postgres', qq{SELECT c.id || ' ' || c.claim_token FROM generate_series(1, $count) g, LATERAL backfill.claim_jobs('worker ' || g, lease => '1 hour') c});
}

# A procedure's claim has such a token, too; it and what it enqueues have the job's headers after its COMMIT.
sub look
{
	my ($node, $name) = @_;
	$node->safe_psql('postgres', q{TRUNCATE seen; DELETE FROM backfill.job WHERE task_identifier = 'followup';
		SELECT backfill.enqueue('look', headers => '{"traceparent": "00-1"}')});
	wait_until($node, 'postgres', q{SELECT count(*) = 1 FROM backfill.jobs WHERE task_identifier = 'followup'}, "$name: a procedure runs");
	is($node->safe_psql('postgres', q{SELECT s.headers, j.headers FROM seen s, backfill.jobs j WHERE j.task_identifier = 'followup'}),
		'{"traceparent": "00-1"}|{"traceparent": "00-1"}', "$name: headers in a procedure");
	return '0 ' . $node->safe_psql('postgres', 'SELECT token FROM seen');
}

sub token_of { my (undef, $token) = split / /, $_[0]; return $token; }

my @issued = (claim($primary, 3), look($primary, 'primary'));
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby);
# A sequence is logged 32 values ahead, so it takes more for the standby to fall behind.
$standby->stop;
my @lost = claim($primary, 100);
push @issued, @lost, look($primary, 'primary');
is(scalar(@issued), 105, 'the primary has issued tokens');
$primary->stop('immediate');
$standby->start;
$standby->promote;

my @new = (claim($standby, 150), look($standby, 'standby'));
is(scalar(@new), 151, 'the promoted standby has issued tokens');
my %is_issued = map { token_of($_) => 1 } @issued;
is_deeply([ grep { $is_issued{ token_of($_) } } @new ], [], 'none of them is one that the old primary had issued');
my %count = map { token_of($_) % 2**35 => 1 } @issued;
cmp_ok(scalar(grep { $count{ token_of($_) % 2**35 } } @new), '>', 50, 'though the sequence has gone back');
my ($least) = sort { $a <=> $b } map { token_of($_) } @new;
is(scalar(grep { token_of($_) >= $least } @issued), 0, 'the new ones are greater');
is(scalar(grep { token_of($_) >= 2**47 } @new, @issued), 0, 'all leave the bits of a node free');

# What the old primary's consumers still say about their jobs reaches nothing.
my %claimed = map { split / / } @new;
my ($id, $old) = split / /, $lost[0];
ok($claimed{$id}, 'a job of a lost claim is claimed anew');
is($standby->safe_psql('postgres', "SELECT backfill.complete_jobs('{$id}', $old)"), '', 'the lost token completes nothing');
is($standby->safe_psql('postgres', "SELECT backfill.fail_job($id, $old, 'no'), backfill.snooze_job($id, $old, '1 hour')"), 'lost|f', 'it fails and delays nothing');
is($standby->safe_psql('postgres', "SELECT count(*) FROM backfill.heartbeat($old)"), 0, 'it prolongs nothing');
is($standby->safe_psql('postgres', "SELECT state, attempts FROM backfill.jobs WHERE id = $id"), 'leased|0', 'the job is leased as before');
is($standby->safe_psql('postgres', "SELECT backfill.complete_jobs('{$id}', $claimed{$id})"), $id, 'the new token completes it');
# The claims that had reached the standby are as good as they were.
($id, $old) = split / /, $issued[0];
is($standby->safe_psql('postgres', "SELECT backfill.complete_jobs('{$id}', $old)"), $id, 'a claim from before that was not lost completes its job');

$standby->stop;
check_log($standby);
done_testing();

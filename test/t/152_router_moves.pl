# Slots are moved to another node, and everything dies at every point: each step is done and lost by the router after
# the nodes have committed, done in halves, and done before a kill -9 of the old or the new node. In the end everything is
# there once, as it was.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use Router;
use PostgreSQL::Test::Utils;
use Test::More;

my ($a, $b) = my @nodes = map { new_node($_, "backfill.max_executors = 0\n") } qw(a b);
my $router = new_router(@nodes);
sub ask { my ($sql) = @_; return $router->safe_psql('postgres', $sql); }
sub refusal { my ($sql) = @_; return ($router->psql('postgres', "\\set VERBOSITY verbose\n$sql"))[2]; }
my $all = "'{" . join(',', 0 .. 255) . "}'::integer[]";
ask("CALL backfill.move_slots($all, 'a')");
is(ask(q{SELECT string_agg(name || slots, ' ' ORDER BY name) FROM backfill.nodes}), 'a256 b0', 'all slots are on one node');

# Of everything that belongs to slots, in every state, with all columns that a job can have; and what does not.
ask(q{
	SELECT backfill.register_task('t'), backfill.register_task('ext'), backfill.register_task('kept', keep_history => '1 day'), backfill.register_task('own', queue_name => 'own queue');
	SELECT backfill.enqueue('t', '{"n": 1.50, "list": ["x", null]}', job_key => 'key ' || i, priority => i % 7, max_attempts => 3 + i % 4,
	                        run_at => CASE WHEN i % 3 = 0 THEN '2100-01-01'::timestamptz END, timeout => '90 s', headers => '{"h": 1}') FROM generate_series(1, 100) i;
	SELECT backfill.add_job('t', '{}', job_key => 'flags', flags => '{a,"b c"}');
	SELECT backfill.enqueue('kept', job_key => 'kept'), backfill.enqueue('t', job_key => 'forgotten');
	SELECT backfill.enqueue('t', queue_name => 'limited ' || i % 4) FROM generate_series(1, 20) i;
	SELECT backfill.enqueue_serial('t', '{}', 'serial ' || i % 4, 'key in serial ' || i) FROM generate_series(1, 20) i;
	SELECT backfill.set_queue('limited 1', 3, 5, '1 min', 100), backfill.pause_queue('limited 2');
	SELECT backfill.schedule('nightly', '0 3 * * *', 't'), backfill.schedule('for a queue', '0 4 * * *', 'own', '{"a": 1}', time_zone => 'Europe/Zurich', fill => '1 day');
	SELECT backfill.add_to_dlq(backfill.enqueue('t', job_key => 'dead ' || i), 'bad') FROM generate_series(1, 20) i;
	SELECT backfill.requeue_dlq_job(id, notes => 'again') FROM backfill.dlq WHERE job_key ~ '[05]$';
	SELECT backfill.enqueue('keyless', to_jsonb(i)) FROM generate_series(1, 30) i;
	SELECT backfill.add_to_dlq(backfill.enqueue('keyless'), 'bad');
	SELECT backfill._enqueue_once(('00000000-0000-0000-0000-0000000000' || (10 + i))::uuid, now(), '{"task_identifier": "t"}') FROM generate_series(1, 9) i});
my @tables = (
	'SELECT j FROM backfill.job j', 'SELECT d FROM backfill.dead_letter d', 'SELECT s FROM backfill.cron_schedule s', 'SELECT f FROM backfill.forwarded f',
	'SELECT to_jsonb(q) - \'id\' - \'rated_since\' FROM backfill.queue q');
sub rows_of { my ($node, $table) = @_; return split /\n/, $node->safe_psql('postgres', $table); }
sub all_rows { return join "\n", map { my $table = $_; sort map { rows_of($_, $table) } @nodes } @tables; }
# An assertion: what there is is what there was.
sub is_as_before
{
	my ($was, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my %rows;
	$rows{$_}-- foreach split /\n/, $was;
	$rows{$_}++ foreach split /\n/, all_rows();
	return is(join("\n", map { "$rows{$_}: $_" } sort grep { $rows{$_} != 0 } keys %rows), '', $name);
}
my $before = all_rows();
cmp_ok(scalar(split /\n/, $before), '>', 200, 'there is a lot to move');
my $belongs = "coalesce(backfill._slot_of(queue_name, job_key), -1) >= 0";

# One step, and what it returns.
sub step { my ($slots, $to, $end) = @_; return ask("BEGIN; SELECT backfill._move_step($slots, backfill._node_number_of('$to'), 'infinity'); $end"); }

# The steps of a move, each with what may happen to it.
sub moves_whatever_dies
{
	my ($name, $slots, $from, $to) = @_;
	my ($from_number, $to_number) = map { ask("SELECT backfill._node_number_of('" . $_->name . "')") } $from, $to;
	my ($said, $steps, %phases) = ('', 0);
	while ($said ne 'done' && $steps < 100)
	{
		my $phase = ask("SELECT coalesce(min(phase), 'none') FROM backfill.slot WHERE slot = ANY ($slots) AND node = $from_number");
		$phases{$phase} = 1;
		# It dies in the middle of a step: the new node has some rows, and the old one has not been told.
		if ($phase eq 'draining')
		{
			ask("SELECT backfill._move_close(${from_number}::smallint, $slots)");
		}
		elsif ($phase eq 'copying')
		{
			my $insert = "SELECT backfill._move_insert(${to_number}::smallint, backfill._move_read(${from_number}::smallint, $slots, 70))";
			ask("BEGIN; $insert; ROLLBACK; $insert");
		}
		# The router loses what it has done, twice.
		step($slots, $to->name, 'ROLLBACK') for 1, 2;
		# The nodes are killed.
		$_->stop('immediate') foreach $steps % 3 == 1 ? $from : $steps % 3 == 2 ? $to : @nodes;
		$_->start foreach $steps % 3 == 1 ? $from : $steps % 3 == 2 ? $to : @nodes;
		$said = step($slots, $to->name, 'COMMIT');
		$steps++;
	}
	is($said, 'done', "$name: the move comes to its end");
	is(join(' ', sort keys %phases), 'copying draining none', "$name: in all its phases");
	is_as_before($before, "$name: everything is there once, as it was");
	is($from->safe_psql('postgres', q{SELECT (SELECT count(*) FROM backfill.departing) + (SELECT count(*) FROM backfill.arrived)})
		  + $to->safe_psql('postgres', q{SELECT (SELECT count(*) FROM backfill.departing) + (SELECT count(*) FROM backfill.arrived)}), 0, "$name: and no trace of the move");
	return;
}
moves_whatever_dies('all slots', $all, $a, $b);
is($a->safe_psql('postgres', "SELECT count(*) FROM backfill.job WHERE $belongs"), 0, 'nothing that belongs to a slot has stayed');
cmp_ok($a->safe_psql('postgres', 'SELECT count(*) FROM backfill.job'), '>', 0, 'jobs without queue and key have');
is(ask(q{SELECT count(*) FROM backfill.jobs j JOIN backfill.nodes n ON n.name = j.node WHERE j.id >> 47 <> n.number AND j.job_key = 'key 1'}), 1, 'a job keeps its id');
my $id = ask(q{SELECT id FROM backfill.jobs WHERE job_key = 'key 1'});
is(ask("SELECT node FROM backfill.get_job($id)"), 'b', 'and is found by it');
like(ask("SELECT backfill.why_not_running($id)"), qr/^no_consumer: /, 'and its new node says why it waits');
my ($kept, $forgotten) = split /\|/, ask(q{SELECT max(id) FILTER (WHERE job_key = 'kept'), max(id) FILTER (WHERE job_key = 'forgotten') FROM backfill.jobs});
ask("SELECT backfill.complete_jobs(ARRAY[$kept, $forgotten])");
like(ask("SELECT backfill.why_not_running($kept)"), qr/^ended: it ended at .*: cancelled$/, 'its new node knows how it ended');
like(ask("SELECT backfill.why_not_running($forgotten)"), qr/^ended: .*the history does not know$/, 'or none does');
is(ask(q{SELECT backfill.enqueue('t', job_key => 'key 2', job_key_mode => 'unsafe_dedupe') = (SELECT id FROM backfill.jobs WHERE job_key = 'key 2')}), 't', 'and by its key');
is(ask("SELECT string_agg(id::text, ' ') FROM backfill.reschedule_jobs(ARRAY[$id, (SELECT id FROM backfill.jobs WHERE payload = '7' AND task_identifier = 'keyless')], priority => 1)") =~ tr/ //, 1, 'many ids of one number are found on two nodes');
is(ask(q{SELECT backfill._enqueue_once('00000000-0000-0000-0000-000000000011', now(), '{"task_identifier": "t"}') = (SELECT min(id) FROM backfill.jobs WHERE task_identifier = 't' AND job_key IS NULL AND queue_name = 'bulk')}), 't', 'what was forwarded before the move is known after it');
$before = all_rows();
moves_whatever_dies('some back', "'{" . join(',', grep { $_ % 2 } 0 .. 255) . "}'::integer[]", $b, $a);
ask("CALL backfill.move_slots($all, 'b')");
is_as_before($before, 'moved there and back by the procedure');

# --- A slot waits for its jobs that run; the others wait with them, and later ones for the slot.

ask(q{SELECT backfill.enqueue('ext', job_key => 'runs')});
my $slot = ask(q{SELECT backfill._slot_of(NULL, 'runs')});
my ($token, $leased) = split /\|/, ask(q{SELECT claim_token, id FROM backfill.claim_jobs('w', tasks => '{ext}', lease => '1 hour')});
$before = all_rows();
like(refusal("CALL backfill.move_slot($slot, 'a', '0')"), qr/ERROR:  55P03: some jobs of the slots still ran after 00:00:00: nothing of these slots was moved/, 'a job that runs is not moved');
is_as_before($before, 'and what was taken out is put back');
like(ask(q{SELECT backfill.enqueue('t', job_key => 'runs', job_key_mode => 'unsafe_dedupe')}), qr/^\d+$/, 'and the slot is open');
is(step("ARRAY[$slot]", 'a', 'COMMIT') . step("ARRAY[$slot]", 'a', 'COMMIT') . step("ARRAY[$slot]", 'a', 'COMMIT'), 'againwaitwait', 'a move waits for it');
like(refusal(q{SET backfill_router.slot_wait = '100 ms'; SELECT backfill.enqueue('t', job_key => 'runs')}), qr/ERROR:  40001: the slot that this belongs to is being moved/, 'producers wait, and are told to try again');
like(refusal(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT backfill.enqueue('t', job_key => 'runs')}), qr/ERROR:  40001:/, 'at once, if their snapshot would never change');
like(refusal("CALL backfill.move_slot($slot, 'b')"), qr/ERROR:  55006: some of the slots are being moved to node "a"/, 'a move must be finished');
is(ask(q{SELECT detail FROM backfill.health() WHERE check_name = 'moving_slots'}), '1 slots are being moved', 'health() tells of it');
my $waits = start_calls($router, q{SELECT backfill.enqueue('t', job_key => 'runs') > 0}, q{SELECT node FROM backfill.jobs WHERE job_key = 'runs'});
wait_until($router, 'postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query ~ 'job_key => .runs'}, 'a producer waits');
is(ask("SELECT backfill.complete_jobs(ARRAY[$leased], $token)"), $leased, 'its consumer completes it where it is');
ask("CALL backfill.rebalance()");
my ($code, $out, $err) = finish_psql($waits);
is("$out$err", "t\na", 'a producer that waited goes on, on the new node');
is(ask(q{SELECT string_agg(name || slots, ' ' ORDER BY name) FROM backfill.nodes}), 'a128 b128', 'rebalance() has moved the rest');

# --- Two sessions move the same slots; a mover is terminated again and again.

my $rows = all_rows();
my @movers = map { start_calls($router, "CALL backfill.move_slots($all, 'a')") } 1, 2;
is(join('', map { (finish_psql($_))[2] } @movers), '', 'two sessions can move the same slots');
is_as_before($rows, 'nothing is lost, nothing twice');
my $terminated = 0;
foreach my $round (1 .. 8)
{
	my $to = $round % 2 ? 'b' : 'a';
	my $mover = start_calls($router, "CALL backfill.move_slots($all, '$to')");
	# In one of its phases, unless it is over before we look.
	my $phase = $round % 4 < 2 ? 'draining' : 'copying';
	wait_until($router, 'postgres', "SELECT bool_or(phase = '$phase') OR bool_and(node = backfill._node_number_of('$to')) FROM backfill.slot WHERE slot >= 0", 'a mover is at work');
	ask(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query ~ '^CALL backfill.move_slots' AND backend_type = 'client backend' AND pid <> pg_backend_pid()});
	$terminated++ if (finish_psql($mover))[0] != 0;
	ask("CALL backfill.move_slots($all, '$to')");
}
# And where it certainly is at work: it waits at the node that it moves from, or to.
foreach my $to ('b', 'a')
{
	my $keeper = $a->background_psql('postgres');
	$keeper->query_safe('BEGIN; LOCK TABLE backfill.job');
	my $mover = start_calls($router, "CALL backfill.move_slots($all, '$to')");
	wait_until($a, 'postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'}, "a mover to $to waits at a node");
	ask(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query ~ '^CALL backfill.move_slots' AND backend_type = 'client backend' AND pid <> pg_backend_pid()});
	$terminated++ if (finish_psql($mover))[0] != 0;
	$keeper->quit;
	ask("CALL backfill.move_slots($all, '$to')");
}
cmp_ok($terminated, '>=', 2, "$terminated movers were terminated");
is_as_before($rows, 'a mover that is terminated somewhere can be called again');

# --- A node is removed, and may go on by itself.

ask(q{CALL backfill.remove_node('a')});
is_as_before($rows, 'nothing is lost, nothing twice');
is(join("\n", map { rows_of($a, $_) } @tables), '', 'the last node has everything');
is(ask(q{SELECT string_agg(name || slots, ' ') FROM backfill.nodes}), 'b256', 'and all slots');
is(ask(q{SELECT count(backfill.cancel_job(id)) FROM backfill.jobs WHERE task_identifier = 'keyless'}), 30, 'whose jobs are found by their ids');
is($a->safe_psql('postgres', q{SELECT backfill.enqueue('alone') >> 47}), 1, 'the removed one works, and its ids are not given by another');
like(refusal("CALL backfill.remove_node('b')"), qr/ERROR:  55000: "b" is the only node/, 'the last one stays');

check_log($_, crashes => 1) foreach @nodes;
check_log($router);
done_testing();

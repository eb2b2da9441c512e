# The router: it has the surface of a node, sends each call to the right node, leaves the decision about rights to the
# nodes, and says what has happened when one of them fails.
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
sub ask { my ($sql, @rest) = @_; return $router->safe_psql('postgres', $sql, @rest); }

# The error of a call, in one line with its SQLSTATE.
sub refusal
{
	my ($sql, %options) = @_;
	my $server = delete $options{server} // $router;
	my (undef, undef, $err) = $server->psql('postgres', "\\set VERBOSITY verbose\n$sql", on_error_stop => 1, %options);
	return $err;
}

# --- The surface.

is($router->safe_psql('postgres', slurp_file("$FindBin::RealBin/../lib/volatile_calls.sql") . 'SELECT * FROM volatile_call'),
	'', 'what is immutable calls nothing else');

# What is not there, and what has other types: docs/scale-out.md has the reasons.
my %not_there = map { $_ => 1 } qw(
  current_job snooze discard set_progress set_result process_available_jobs await_job wait_for_jobs
  add_cron_schedule schedule_crontab prometheus_metrics set_outbox enqueue_via_outbox);
my $guide = slurp_file("$FindBin::RealBin/../../docs/scale-out.md");
like($guide, qr/`$_[(`]/, "the guide says why $_() is not there") foreach sort keys %not_there;

my $catalog = q{
	SELECT p.proname || '|' || p.prokind::text || '|' || pg_get_function_arguments(p.oid) || '|' || CASE WHEN p.proretset THEN 'set' ELSE coalesce(pg_get_function_result(p.oid), '') END
	  FROM pg_proc p WHERE p.pronamespace = 'backfill'::regnamespace AND p.proname !~ '^_'};
sub surface { my ($server) = @_; return split /\n/, $server->safe_psql('postgres', $catalog); }
# Rows of a node get its name; a function of the nodes is text here; sets of rows are as they are.
sub comparable
{
	my (@functions) = @_;
	my %seen;
	foreach (@functions)
	{
		s/(, )?OUT .*?(?=\|)//;
		s/\bregprocedure\b/text/g;
		s/\|(record|TABLE\(.*)$/|set/;
		$seen{$_} = 1;
	}
	return %seen;
}
my %on_node = comparable(surface($a));
my %on_router = comparable(surface($router));
cmp_ok(scalar(keys %on_node), '>', 70, 'the whole surface is compared');
is(join("\n", sort grep { !$on_router{$_} && !$not_there{ (split /\|/)[0] } } keys %on_node),
	'', 'every function of a node is on the router, with the same arguments and defaults');
is(join("\n", sort grep { $not_there{ (split /\|/)[0] } } keys %on_router), '', 'what is listed as not there is not there');
is(join(' ', sort map { (split /\|/)[0] } grep { !$on_node{$_} } keys %on_router),
	'accept_node add_node check_nodes move_slot move_slots rebalance remove_node', 'and the router has its own');
my $columns = q{
	SELECT c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, NULL) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
	 WHERE c.relnamespace = 'backfill'::regnamespace AND c.relkind = 'v' AND c.relname !~ '^_' AND a.attnum > 0 AND NOT (c.relname <> 'nodes' AND a.attname = 'node') AND c.relname <> 'nodes'
	 ORDER BY c.relname, a.attnum};
is(ask($columns), $a->safe_psql('postgres', $columns), 'its views have the same columns');
is(ask(q{SELECT count(*) FROM pg_attribute WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'backfill'::regnamespace AND relkind = 'v') AND attname = 'node'}),
	10, 'and a column node');
is(ask(q{SELECT count(*) FROM pg_proc p WHERE p.pronamespace = 'backfill'::regnamespace AND (obj_description(p.oid, 'pg_proc') IS NULL OR has_function_privilege('public', p.oid, 'EXECUTE'))}),
	0, 'every function has a comment, and PUBLIC may call none');
is(ask(q{SELECT count(*) FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.pronamespace = 'backfill'::regnamespace AND l.lanname <> 'plproxy' AND p.prokind = 'f' AND p.prosqlbody IS NULL AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)}),
	0, 'the search_path of every function is pinned, unless its names are bound already');
is(ask(q{SELECT string_agg(DISTINCT p.proname, ' ' ORDER BY p.proname) FROM pg_proc p WHERE p.pronamespace = 'backfill'::regnamespace AND p.prosecdef}),
	'_note_task_queue _set_mark _set_silent', 'only these are SECURITY DEFINER');
my $plans = join ' ', map { "SELECT backfill._slot_of('$_', NULL), backfill._slot_of(NULL, '$_'), backfill._slot_of_schedule('$_', NULL, NULL);" } 'x', 'fast', "\xc3\xa9", 'a long name of a queue';
is(ask($plans), $a->safe_psql('postgres', $plans), 'router and nodes agree about slots');

# --- Which node.

ask(q{SELECT backfill.register_task('t'); SELECT backfill.register_task('own', queue_name => 'own queue')});
is(ask('SELECT string_agg(slots::text, \' \' ORDER BY slots) FROM backfill.nodes'), '85 85 86', 'each node has its share of the slots');
is(ask(q{SELECT count(DISTINCT id) FROM (SELECT backfill.enqueue('t', job_key => 'key') AS id FROM generate_series(1, 5)) e}), 1, 'one key, one job');
ask(q{SELECT backfill.enqueue('t', queue_name => 'q', job_key => 'key ' || i) FROM generate_series(1, 9) i});
ask(q{SELECT backfill.enqueue('own') FROM generate_series(1, 9) i});
ask(q{SELECT backfill.enqueue('t', job_key => 'spread ' || i) FROM generate_series(1, 60) i});
ask(q{SELECT backfill.enqueue('t', '{"keyless": 1}') FROM generate_series(1, 60) i});
is(ask(q{SELECT count(DISTINCT node) FROM backfill.jobs WHERE queue_name = 'q'}), 1, 'jobs of a queue are on one node');
is(ask(q{SELECT count(DISTINCT node) FROM backfill.jobs WHERE task_identifier = 'own'}), 1, 'also if it is the queue of their task');
is(ask(q{SELECT count(DISTINCT node) FROM backfill.jobs WHERE job_key ~ '^spread'}), 3, 'keys are on all nodes');
is(ask(q{SELECT count(DISTINCT node) FROM backfill.jobs WHERE payload ? 'keyless'}), 3, 'and jobs without one');
is(ask(q{SELECT count(*) FROM backfill.jobs j JOIN backfill.nodes n ON n.name = j.node WHERE j.id >> 47 <> n.number}), 0, 'ids have the number of their node');
is(ask(q{SELECT count(*) FROM backfill.jobs WHERE id::float8::bigint <> id}), 0, 'and are exact in JSON');
is(ask(q{SELECT count(*) FROM backfill.jobs j JOIN backfill.slot s ON s.slot = backfill._slot_of(j.queue_name, j.job_key) JOIN backfill.node n ON n.number = s.node WHERE n.name <> j.node}), 0, 'each where its slot is');

# The presets make the same jobs as on a node.
my @presets = map { "backfill.$_" } q{enqueue_fast('p')}, q{enqueue_bulk('p')}, q{enqueue_emergency('p')}, q{enqueue_critical('p')},
  q{enqueue_fast_with_retries('p')}, q{enqueue_bulk_with_retries('p')}, q{enqueue_serial('p', '{}', 'serial')},
  q{enqueue('p', '{"a": [1.10, "x"]}', 'fast', -3, '2100-01-01', 7, NULL, 'replace', 'graphile', '90 s', '{"h": 1}')};
sub presets_made
{
	my ($server) = @_;
	my $ids = join ', ', map { $server->safe_psql('postgres', "SET backfill.headers = '{\"s\": 2}'; SELECT $_") } @presets;
	return $server->safe_psql('postgres',
		"SELECT j.task_identifier, j.payload, j.queue_name, j.priority, j.run_at > now(), j.max_attempts, j.retry_policy, j.timeout, j.headers FROM unnest(ARRAY[$ids]) WITH ORDINALITY e (id, n) CROSS JOIN LATERAL backfill.get_job(e.id) j ORDER BY e.n");
}
is(presets_made($router), presets_made($b), 'a routed job is as one that is enqueued on the node');

is( ask(q{SELECT string_agg(e.n || ' ' || j.payload::text, ',' ORDER BY e.n) FROM backfill.enqueue_jobs(
	(SELECT jsonb_agg(jsonb_build_object('task_identifier', 't', 'payload', i) || CASE WHEN i % 2 = 0 THEN jsonb_build_object('job_key', 'many ' || i) ELSE '{}' END) FROM generate_series(1, 6) i))
	WITH ORDINALITY e (id, n) CROSS JOIN LATERAL backfill.get_job(e.id) j}),
	'1 1,2 2,3 3,4 4,5 5,6 6', 'ids of many jobs are in their order');
like(refusal(q{SELECT backfill.enqueue_jobs('{"a": 1}')}), qr/ERROR:  22023: .*array/, 'what is no array is refused as on a node');
like(refusal(q{SELECT backfill.enqueue_jobs('[{"task_identifier": "t", "job_key": "good 1"}, {"task_identifier": "t", "priority": "no"}]')}),
	qr/priority must be an integer.*DETAIL:.*1 of 2 jobs were enqueued before, on other nodes: \{\d+\}/s, 'an error says what was enqueued before it');
ask(q{SELECT backfill.enqueue_many('t', array_fill('{"many": 1}'::jsonb, '{10}'))});
is(ask(q{SELECT count(*), count(DISTINCT node) FROM backfill.jobs WHERE payload ? 'many'}), '10|1', 'enqueue_many() is one transaction on one node');
is(ask(q{SELECT string_agg(job_key, ',') FROM backfill.add_jobs(ARRAY[('t', '{}', NULL, NULL, NULL, 'g1', NULL, NULL), ('t', '{}', NULL, NULL, NULL, 'g2', NULL, NULL)]::backfill.job_spec[])}), 'g1,g2', 'add_jobs() returns the jobs');

# --- By id, wherever it is.

my ($id) = split /\|/, ask(q{SELECT id FROM backfill.jobs WHERE job_key = 'key'});
is(ask("SELECT j.job_key FROM backfill.get_job($id) j"), 'key', 'a job is found by its id');
is(ask("SELECT backfill.add_to_dlq($id, 'bad')") ne '', 1, 'it is put into the dead letter queue');
my $letter = ask("SELECT id FROM backfill.dlq WHERE original_job_id = $id");
is(ask("SELECT total FROM backfill.list_dlq_jobs()"), 1, 'which is listed');
is(ask("SELECT backfill.update_dlq_job($letter, notes => 'n'), (SELECT notes FROM backfill.get_dlq_job($letter)), backfill.requeue_dlq_job($letter)"), "t|n|$id", 'its letter is found by its id');
is(ask("SELECT string_agg(priority::text, ',') FROM backfill.reschedule_jobs(ARRAY[$id, 5, NULL], priority => -7)"), '-7', 'ids of no node are passed over');
is(ask("SELECT backfill.cancel_job($id), backfill.cancel_job($id), backfill.cancel_job(5)"), 't|f|f', 'cancel_job()');
like(refusal('SELECT backfill.requeue_dlq_job(140737488355329)'), qr/ERROR:  42704: dead letter 140737488355329 does not exist.*At node "/s, 'an error is that of the node, and names it');
ask(q{SELECT backfill.set_queue('limited', 2), backfill.set_queue('fast', 7)});
is(ask(q{SELECT queue_name, concurrency, count(*) FROM backfill.queues WHERE queue_name IN ('limited', 'fast') GROUP BY 1, 2 ORDER BY 1}), "fast|7|3\nlimited|2|1", 'a queue is on its node, fast on all');
is(ask(q{SELECT backfill.delete_queue('limited'), backfill.delete_queue('limited')}), 't|f', 'delete_queue()');
is(ask(q{SELECT count(*) FROM backfill.remove_job('g1')}), 1, 'remove_job()');
ask(q{SELECT backfill.schedule('s', '0 0 1 1 *', 't'), backfill.schedule('s', '0 0 1 1 *', 't', queue_name => 'elsewhere ' || i) FROM generate_series(1, 5) i});
is(ask(q{SELECT count(*), min(queue_name) FROM backfill.schedules}), '1|elsewhere 5', 'a schedule is on one node, also if its queue is changed');
is(ask(q{SELECT backfill.unschedule('s'), backfill.unschedule('s')}), 't|f', 'unschedule()');
is(ask(q{SELECT backfill.priority('FAST_HIGH'), backfill.priority_band(-10), backfill.classify_error('40001'), backfill.cron_next('0 0 1 1 *') > now()}), '-10|fast_high|free_retry|t', 'what any node answers');
is(ask(q{SELECT count(DISTINCT labels ->> 'node') FROM backfill.metrics('backfill_queue_depth')}), 3, 'metrics have a label node');

# --- Consumers: all jobs, each once.

ask(q{SELECT backfill.register_task('ext'); SELECT backfill.enqueue('ext', to_jsonb(i)) FROM generate_series(1, 50) i});
is( ask(q{
	DO $$
	DECLARE
		claim record;
		ended bigint[] := '{}';
	BEGIN
		LOOP
			SELECT claim_token, array_agg(id) AS ids INTO claim FROM backfill.claim_jobs('w', 4, '{ext}') GROUP BY 1;
			EXIT WHEN claim.ids IS NULL;
			IF (SELECT count(*) FROM backfill.heartbeat(claim.claim_token)) <> cardinality(claim.ids) THEN RAISE 'lost'; END IF;
			ended := ended || ARRAY(SELECT backfill.complete_jobs(claim.ids, claim.claim_token));
		END LOOP;
		IF (SELECT count(DISTINCT e) FROM unnest(ended) e) <> 50 THEN RAISE 'completed %', ended; END IF;
	END $$;
	SELECT count(*) FROM backfill.jobs WHERE task_identifier = 'ext'}), 0, 'a consumer gets the jobs of all nodes through the router');
like(refusal('SELECT backfill.heartbeat(5)'), qr/ERROR:  22023: claim_token 5 is of no node/, 'a token of no node is refused');

# --- Rights: the node decides, as the role that calls.

on_all(q{CREATE ROLE app LOGIN; CREATE ROLE watcher LOGIN; CREATE ROLE stranger LOGIN}, $router, @nodes);
ask(q{SELECT backfill.grant_producer('app', '{t}'), backfill.grant_monitor('watcher')});
sub as { my ($role, $sql) = @_; return refusal($sql, extra_params => [ '-U', $role ]); }
is(as('app', q{SELECT backfill.enqueue('t')}), '', 'a producer enqueues its tasks');
like(as('app', q{SELECT backfill.enqueue('ext')}), qr/ERROR:  42501: permission denied to enqueue task "ext"\nDETAIL:  Role "app" may/, 'and no others: the node says so');
like(as('app', q{SELECT * FROM backfill.get_job(1)}), qr/ERROR:  42501: permission denied for function get_job/, 'what it has no right to ends here');
like(as('app', q{SELECT backfill._at_cancel_job(1, NULL, NULL, 1)}), qr/ERROR:  42501/, 'nor can it call the nodes by itself');
like(as('app', q{UPDATE backfill.node SET conninfo = 'host=evil'}), qr/ERROR:  42501/, 'nor say where they are');
like(as('app', q{SELECT backfill._set_mark(1::smallint, 9e15::bigint)}), qr/ERROR:  42501/, 'nor that they have gone back');
like(as('app', q{SELECT backfill._set_silent(1::smallint, true)}), qr/ERROR:  42501/, 'nor that they are silent');
like(as('app', q{CREATE FUNCTION f() RETURNS int LANGUAGE plproxy AS $$ CLUSTER 'backfill'; RUN ON 1; SELECT 1; $$}), qr/ERROR:  42501/, 'nor write functions that do');
like(as('stranger', q{SELECT backfill.enqueue('t')}), qr/ERROR:  42501/, 'a role without a bundle has no right at all');
is(as('watcher', q{DO $$ BEGIN IF EXISTS (SELECT FROM backfill.jobs WHERE payload IS NOT NULL) THEN RAISE 'payload'; END IF; END $$; SELECT * FROM backfill.health(); SELECT * FROM backfill.metrics()}), '', 'a monitor sees the views without payloads, the metrics and health()');
like(as('watcher', q{SELECT backfill.enqueue('t')}), qr/ERROR:  42501/, 'and changes nothing');
my $search_path = q{CREATE SCHEMA evil AUTHORIZATION app; SET ROLE app;
	CREATE FUNCTION evil.format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;
	CREATE FUNCTION evil.int4eq(int, int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;
	CREATE OPERATOR evil.= (FUNCTION = evil.int4eq, LEFTARG = int, RIGHTARG = int); RESET ROLE;
	SET search_path = evil, pg_catalog; SELECT backfill.enqueue('t'); SELECT count(*) > 0 FROM backfill.jobs;
	CALL backfill.move_slot(0, 'b'); CALL backfill.move_slot(0, 'a')};
is(refusal($search_path), '', 'no search_path gets into it');

# --- add_node().

like(refusal(q{SELECT backfill.add_node('d', 'host=/tmp user=postgres')}), qr/ERROR:  22023: conninfo must not name a user/, 'a conninfo that every role can read has no user');
like(refusal(q{SELECT backfill.add_node('d', 'host=/tmp password=secret')}), qr/ERROR:  22023: conninfo must not name a user or a password/, 'and no password');
like(refusal(q{SELECT backfill.add_node('d', 'postgresql://x/y')}), qr/ERROR:  22023: conninfo must be a list/, 'and is no URI');
like(refusal(q{SELECT backfill.add_node('d', 'host=/nonexistent dbname=x')}), qr/ERROR:  08001: node "host.*cannot be reached/s, 'a node must be there');
my $same = conninfo($a);
like(refusal("SELECT backfill.add_node('d', '$same')"), qr/number 1 is used.*by another node|is a node already/, 'and be none yet');
$a->safe_psql('postgres', 'CREATE DATABASE without; CREATE DATABASE standalone; CREATE DATABASE other_version');
my $bare = 'host=' . $a->host . ' port=' . $a->port . ' dbname=';
like(refusal("SELECT backfill.add_node('d', '${bare}without')"), qr/ERROR:  55000: the database has no extension backfill of version/, 'it needs the extension');
$a->safe_psql('other_version', 'CREATE EXTENSION backfill');
$a->safe_psql('other_version', q{CREATE OR REPLACE FUNCTION backfill.version() RETURNS text LANGUAGE sql STRICT STABLE PARALLEL SAFE AS $$ SELECT '0.9.1' $$});
like(refusal("SELECT backfill.add_node('d', '${bare}other_version')"), qr/ERROR:  55000: the database has version 0\.9\.1 of backfill/, 'of the same version');
$a->safe_psql('standalone', q{CREATE EXTENSION backfill; SELECT backfill.enqueue('old')});
is(ask("SELECT backfill.add_node('zero', '${bare}standalone')"), 0, 'a database that has jobs of before is number 0');
is(ask(q{SELECT count(*) FROM backfill.jobs WHERE task_identifier = 'old' AND node = 'zero' AND id < 2::float8 ^ 47}), 1, 'whose jobs keep their ids');
$a->safe_psql('postgres', 'CREATE DATABASE second');
$a->safe_psql('second', q{CREATE EXTENSION backfill; SELECT backfill.enqueue('old')});
like(refusal("SELECT backfill.add_node('e', '${bare}second')"), qr/ERROR:  42710: number 0 is used/, 'there can be one');
like(refusal("SELECT backfill.add_node('e', '${bare}second', 9)"), qr/ERROR:  55000: database "second" has jobs or dead letters whose ids have the numbers \{0\}/, 'and its ids do not lie');
$a->safe_psql('second', q{DELETE FROM backfill.job; SELECT setval('backfill.job_id_seq', (5::bigint << 47) + 17)});
like(refusal("SELECT backfill.add_node('e', '${bare}second')"), qr/ERROR:  55000: the ids of database "second" have the number 5 already/, 'nor those to come');
my (undef, undef, $back) = $a->psql('second', 'SELECT backfill._node_number(5, NULL), backfill._node_number(0, NULL)');
like($back, qr/the ids of database "second" have the number 5 already/, 'a number is not given back, by its owner neither: ids would begin anew');
for my $wrong ('-1, NULL', '64, NULL', '5, 17') {
	my (undef, undef, $refused) = $a->psql('second', "SELECT backfill._node_number($wrong)");
	like($refused, qr/ERROR:  a node cannot have the number/, "nor is there a node with number and ids $wrong");
}
is(ask("SELECT count(*) FROM backfill.node"), 4, 'what was refused has left nothing');
ask("SELECT backfill.add_node('a', '$same')");
is(ask(q{SELECT count(*) FROM (SELECT backfill.enqueue('t', job_key => 'again ' || i) FROM generate_series(1, 20) i) e}), 20, 'a node can be given another conninfo');
ask(q{CALL backfill.remove_node('zero')});
is(ask(q{SELECT count(*), bool_and(node <> 'zero') FROM backfill.jobs WHERE task_identifier = 'old'}), '1|t', 'a node is removed, and its jobs are elsewhere');
is($a->safe_psql('standalone', 'SELECT count(*) FROM backfill.job'), 0, 'and not there');
my $old = ask(q{SELECT id FROM backfill.jobs WHERE task_identifier = 'old'});
is(ask("SELECT backfill.cancel_job($old)"), 't', 'and are found by their ids');
like(refusal(q{CALL backfill.remove_node('zero')}), qr/there is no node "zero"/, 'a removed node is gone');

# --- A node that is not what it was.

ask(q{SELECT * FROM backfill.check_nodes()});
$a->safe_psql('postgres', q{SELECT setval('backfill.job_id_seq', (SELECT last_value - 10 FROM backfill.job_id_seq))});
my $key_of_a = ask(q{SELECT 'k' || i FROM generate_series(1, 100) i JOIN backfill.slot s ON s.slot = backfill._slot_of(NULL, 'k' || i) JOIN backfill.node n ON n.number = s.node WHERE n.name = 'a' LIMIT 1});
like(refusal("SELECT backfill.enqueue('t', job_key => '$key_of_a')"), qr/ERROR:  JB008: node "a" has gone back in time.*accept_node/s, 'a node whose ids have gone back is refused');
like(ask(q{SELECT detail FROM backfill.check_nodes() WHERE status <> 'ok'}), qr/^it has gone back in time/, 'check_nodes() says so');
like(ask(q{SELECT status || detail FROM backfill.health() WHERE check_name = 'node' AND node = 'a'}), qr/^criticalit has gone back/, 'and health()');
ask(q{SELECT backfill.accept_node('a')});
cmp_ok(ask("SELECT backfill.enqueue('t', job_key => '$key_of_a')"), '>', ask(q{SELECT mark FROM backfill.nodes WHERE name = 'a'}), 'after accept_node() it gives new ids');
is(ask(q{SELECT count(*) FROM backfill.check_nodes() WHERE status <> 'ok'}), 0, 'and is well');
ask("UPDATE backfill.slot SET node = 2 WHERE slot = backfill._slot_of(NULL, '$key_of_a')");
like(refusal("SET backfill_router.slot_wait = '100 ms'; SELECT backfill.enqueue('t', job_key => '$key_of_a')"), qr/ERROR:  40001: the slot that this belongs to is being moved.*does not hold slot/s, 'a router that is mistaken about a slot does no harm');
ask("UPDATE backfill.slot SET node = 1 WHERE slot = backfill._slot_of(NULL, '$key_of_a')");
ask(q{ALTER SERVER backfill OPTIONS (SET p1 '} . conninfo($b) . q{')});
like(refusal("SELECT backfill.enqueue('t', job_key => '$key_of_a')"), qr/ERROR:  JB008: database "postgres" is not the node that the router takes it for/, 'a database that is another node is refused');
ask("SELECT backfill.add_node('a', '$same')");

# --- A node that is down.

$a->stop('immediate');
like(refusal("SELECT backfill.enqueue('t', job_key => '$key_of_a')"), qr/ERROR:  08001: node "a" cannot be reached.*Nothing was done there/s, 'what belongs to a node that is down fails, and says which it is');
is(ask(q{SELECT count(*), count(*) FILTER (WHERE id >> 47 = 1) FROM (SELECT backfill.enqueue('t', '{"while": "down"}') AS id FROM generate_series(1, 50)) e}), '50|0', 'jobs without a key go to the others');
like(refusal(q{SELECT count(*) FROM backfill.jobs}), qr/WARNING:  08001: node "a" cannot be reached; its rows are missing/, 'views warn of it');
is(ask(q{SELECT count(*) FROM backfill.jobs WHERE payload ->> 'while' = 'down'}), 50, 'and show the rest');
like(refusal(q{SELECT backfill.register_task('late')}), qr/ERROR:  08001: register_task\(\) has failed on 1 of 3 nodes: "a": node "a" cannot be reached/, 'what all nodes must do is an error');
is($b->safe_psql('postgres', q{SELECT count(*) FROM backfill.tasks WHERE task_identifier = 'late'}), 1, 'and is done on the others');
like(ask(q{SELECT status || ' ' || detail FROM backfill.health() WHERE check_name = 'node' AND node = 'a'}), qr/^critical node "a" cannot be reached/, 'health() says so');
$a->start;
ask(q{SELECT backfill.register_task('late')});
is(ask(q{SELECT count(*) FROM backfill.health() WHERE check_name = 'same_tasks'}), 0, 'and it is made up for');

# Lost in the middle of a call: the outcome is not known.
$a->safe_psql('postgres', q{CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;
	CREATE TRIGGER die BEFORE INSERT ON backfill.job FOR EACH ROW EXECUTE FUNCTION die()});
like(refusal("SELECT backfill.enqueue('t', job_key => '$key_of_a')"), qr/ERROR:  08007: node "a" was lost during the call: it may have done it, or not/, 'a call whose outcome is not known says so');
$a->safe_psql('postgres', 'DROP FUNCTION die() CASCADE');

# --- Dump and restore of the router, and of a node.

my $dir = PostgreSQL::Test::Utils::tempdir();
$router->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/router", '-d', $router->connstr('postgres') ], 'the router is dumped');
ask('CREATE DATABASE restored');
$router->command_ok([ 'pg_restore', '--exit-on-error', '-d', $router->connstr('restored'), "$dir/router" ], 'and restored');
is($router->safe_psql('restored', "SELECT backfill.enqueue('t', job_key => '$key_of_a') > 0"), 't', 'and routes');
$b->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/node", '-d', $b->connstr('postgres') ], 'a node is dumped');
$b->safe_psql('postgres', 'CREATE DATABASE restored');
$b->command_ok([ 'pg_restore', '--exit-on-error', '-d', $b->connstr('restored'), "$dir/node" ], 'and restored');
is($b->safe_psql('restored', q{SELECT backfill.enqueue('t') >> 47, (SELECT claim_token >> 47 FROM backfill.claim_jobs('w', tasks => '{t}'))}), '2|2', 'its ids and tokens have its number');

check_log($_) foreach @nodes;
done_testing();

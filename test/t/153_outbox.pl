# enqueue_via_outbox(): a job for another cluster is part of the transaction that enqueues it, and is enqueued there once,
# whatever dies in between.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Backfill;
use Router;
use PostgreSQL::Test::Utils;
use Test::More;

my @nodes = map { new_node($_, "backfill.max_executors = 2\n") } qw(a b);
my $router = new_router(@nodes);
my $origin = new_node('origin', "backfill.max_executors = 2\n");
sub ask { my ($sql) = @_; return $origin->safe_psql('postgres', $sql); }
sub refusal { my ($sql) = @_; return ($origin->psql('postgres', "\\set VERBOSITY verbose\n$sql"))[2]; }

like(refusal(q{SELECT backfill.set_outbox('router')}), qr/ERROR:  42704: an outbox needs the extension dblink/, 'an outbox needs dblink');
ask('CREATE EXTENSION dblink SCHEMA public');
like(refusal(q{SELECT backfill.set_outbox('router')}), qr/ERROR:  42704: there is no foreign server "router" of dblink_fdw/, 'and a foreign server');
my ($host, $port) = ($router->host, $router->port);
ask(qq{CREATE SERVER router FOREIGN DATA WRAPPER dblink_fdw OPTIONS (host '$host', port '$port', dbname 'postgres');
	CREATE USER MAPPING FOR CURRENT_USER SERVER router;
	SELECT backfill.set_retry_policy('quick', 1000, '1 ms', '50 ms', 2, 0.5);
	SELECT backfill.set_outbox('router');
	UPDATE backfill.task SET retry_policy = 'quick' WHERE task_identifier = 'backfill.outbox'});

on_all(q{CREATE TABLE effect (token int); CREATE FUNCTION work(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO effect VALUES ((payload ->> 'token')::int) $$}, @nodes);
$router->safe_psql('postgres', q{SELECT backfill.register_task('work', 'work(jsonb)'); SELECT backfill.register_task('held')});
sub effects { return join ' ', sort { $a <=> $b } map { split /\n/, $_->safe_psql('postgres', 'SELECT token FROM effect') } @nodes; }
sub forwarded_all { return wait_until($origin, 'postgres', q{SELECT count(*) = 0 FROM backfill.job}, shift); }
sub done_all { wait_until($_, 'postgres', q{SELECT count(*) = 0 FROM backfill.job WHERE task_identifier = 'work'}, 'jobs of ' . $_->name . ' have ended') foreach @nodes; return; }

# --- In the transaction.

ask(q{BEGIN; SELECT backfill.enqueue_via_outbox('work', '{"token": 1}'); ROLLBACK;
	BEGIN; SELECT backfill.enqueue_via_outbox('work', '{"token": 2}'), backfill.enqueue_via_outbox('work', '{"token": 3}', job_key => 'k'); COMMIT});
forwarded_all('what is committed is forwarded');
done_all();
is(effects(), '2 3', 'and what is rolled back is not');
ask(q{SELECT backfill.enqueue_via_outbox('held', '{"a": 1.0}', 'some queue', -3, '2100-01-01', 7, 'key', 'replace', 'aggressive', '1 min', '{"h": 1}')});
forwarded_all('a job with all arguments is forwarded');
is($router->safe_psql('postgres', q{SELECT task_identifier, payload, queue_name, priority, run_at = '2100-01-01', max_attempts, job_key, retry_policy, timeout, headers FROM backfill.jobs}),
	'held|{"a": 1.0}|some queue|-3|t|7|key|aggressive|00:01:00|{"h": 1}', 'as it was');
like(refusal('SELECT backfill.enqueue_via_outbox(NULL)'), qr/ERROR:  22004: task_identifier must not be null/, 'it must have a task');

# --- The same twice: the answer was lost, the local job runs again.

my $id = '00000000-0000-0000-0000-0000000000aa';
my $again = qq{SELECT backfill._enqueue_once('$id', now(), '{"task_identifier": "work", "payload": {"token": 4}}')};
my $first = $router->safe_psql('postgres', $again);
is($router->safe_psql('postgres', $again), $first, 'forwarded twice, enqueued once');
my @same = map { start_calls($router, qq{SELECT backfill._enqueue_once('00000000-0000-0000-0000-0000000000bb', now(), '{"task_identifier": "work", "payload": {"token": 5}}')}) } 1 .. 5;
my %ids = map { (finish_psql($_))[1] => 1 } @same;
is(scalar(keys %ids), 1, 'also at the same time');
done_all();
is(effects(), '2 3 4 5', 'with one effect');
like(($router->psql('postgres', q{SELECT backfill._enqueue_once(gen_random_uuid(), now() - interval '29 days 1 hour', '{"task_identifier": "work"}')}))[2],
	qr/too long ago to know whether it was forwarded/, 'after 29 days that is not known');
on_all(q{UPDATE backfill.forwarded SET created_at = now() - interval '31 days' WHERE job_id IS NOT NULL}, @nodes);
$router->safe_psql('postgres', q{SELECT backfill._enqueue_once(gen_random_uuid(), now(), '{"task_identifier": "held"}') FROM generate_series(1, 20)});
is($nodes[$_]->safe_psql('postgres', q{SELECT count(*) FROM backfill.forwarded WHERE created_at < now() - interval '30 days'}), 0, 'and it is forgotten') for 0, 1;

# --- Everything dies.

ask('CREATE TABLE intended (token int GENERATED ALWAYS AS IDENTITY (START 1000))');
my $producer = start_calls($origin, q{DO $$ BEGIN FOR i IN 1 .. 600 LOOP
	WITH n AS (INSERT INTO intended DEFAULT VALUES RETURNING token)
	SELECT backfill.enqueue_via_outbox('work', jsonb_build_object('token', token), job_key => CASE WHEN token % 2 = 0 THEN 'key ' || token END) INTO STRICT i FROM n;
	COMMIT; END LOOP; END $$});
wait_until($nodes[0], 'postgres', 'SELECT count(*) > 20 FROM effect WHERE token >= 1000', 'jobs are forwarded');
kill_node($nodes[0]);
$nodes[0]->start;
is($router->safe_psql('postgres', q{SET client_min_messages = error; SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE query ~ '_enqueue_once' AND pid <> pg_backend_pid()}), 't', 'the forwarder loses its connections');
$router->stop('immediate');
$router->start;
$router->safe_psql('postgres', "CALL backfill.move_slots('{" . join(',', 0 .. 255) . "}', 'b')");
$origin->psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'backfill executor'});
is((finish_psql($producer))[0], 0, 'all are in the outbox');
forwarded_all('all are forwarded');
done_all();
is($origin->safe_psql('postgres', q{SELECT count(*) FROM backfill.dlq}), 0, 'none has failed for good');
is(effects(), join(' ', 2 .. 5, 1000 .. 1599), 'and each has run once');

# --- Rights: a producer of the outbox may forward what the outbox's role may enqueue; another may not.

ask(q{CREATE ROLE app; CREATE ROLE other; SELECT backfill.grant_producer('app', '{backfill.outbox}'), backfill.grant_producer('other', '{t}')});
like(refusal(q{SET ROLE other; SELECT backfill.enqueue_via_outbox('work', '{"token": 6}')}), qr/ERROR:  42501: permission denied to enqueue task "backfill.outbox"/, 'the outbox is a task');
is(refusal(q{SET ROLE app; SELECT backfill.enqueue_via_outbox('work', '{"token": 7}')}), '', 'which can be granted');
like(refusal(q{SET ROLE app; SELECT backfill.set_outbox('router')}), qr/ERROR:  42501/, 'not where it goes');
like(refusal(q{SET ROLE app; SELECT * FROM backfill.forwarded}), qr/ERROR:  42501/, 'nor what was forwarded');
forwarded_all('what it has enqueued is forwarded');
done_all();
like(effects(), qr/^2 3 4 5 7 /, 'with effect');

# --- To a database that is no router.

my $plain = new_node('plain', "backfill.max_executors = 0\n");
is($plain->safe_psql('postgres', "$again; $again") =~ s/\n/ /r, '1 1', 'a database without a router takes them, too');

check_log($_, crashes => 1) foreach @nodes, $origin;
done_testing();

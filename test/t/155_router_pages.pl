# Pages over many nodes: each thing is on one page, once, in the order of its list; what is added up is what the nodes have; a node
# that is down is said to be missing.
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
sub ask { my ($sql) = @_; return $router->safe_psql('postgres', $sql); }
sub refusal { my ($sql, %options) = @_; return ($router->psql('postgres', "\\set VERBOSITY verbose\n$sql", on_error_stop => 1, %options))[2]; }

# Jobs, dead letters, a history, queues, tasks, schedules and calls of administrators on all nodes.
ask(q{SELECT backfill.register_task('t'), backfill.register_task('ext', keep_history => '1 day'), backfill.register_task('x ' || i) FROM generate_series(1, 3) i});
ask(q{SELECT backfill.enqueue('t', jsonb_build_object('n', i), job_key => 'key ' || i) FROM generate_series(1, 40) i});
ask(q{SELECT backfill.enqueue('t', '{"dies": true}', job_key => 'dead ' || i) FROM generate_series(1, 30) i});
ask(q{SELECT count(backfill.add_to_dlq(id, 'because of ' || job_key, '{"sqlstate": "22012", "message": "no"}')) FROM backfill.jobs WHERE payload ? 'dies'});
ask(q{SELECT backfill.enqueue('t', queue_name => 'queue ' || i) FROM generate_series(1, 12) i});
ask(q{SELECT backfill.set_queue('queue ' || i, 2), backfill.schedule('s ' || i, '0 0 1 1 *', 't', queue_name => 'queue ' || i) FROM generate_series(1, 6) i});
ask(q{SELECT backfill.enqueue('ext', job_key => 'ended ' || i) FROM generate_series(1, 30) i});
ask(q{SELECT count(*) FROM backfill.claim_jobs('w', 100, '{ext}') c, backfill.complete_jobs(ARRAY[c.id], c.claim_token)}) foreach 1 .. 12; # bulk has five places on each node
is(ask(q{SELECT count(*), count(DISTINCT node) FROM backfill.history}), '30|3', 'a consumer has completed jobs of all nodes');

# Walks all pages of a list; what it says of each item.
sub walk
{
	my ($list, $arguments, $items, $item) = @_;
	my ($cursor, @seen, @totals, $pages) = ('NULL');
	do
	{
		my ($rows, $next, $total) = split /\|/, ask(
			"SELECT coalesce((SELECT string_agg($item, ';' ORDER BY i.place) FROM jsonb_array_elements(p.page -> '$items') WITH ORDINALITY i (item, place)), ''),
			        p.page ->> 'next', p.page -> 'total' ->> 'count'
			   FROM (SELECT backfill.$list(${arguments}\"limit\" => 7, cursor => $cursor) AS page) p");
		push @seen, split /;/, $rows;
		push @totals, $total // '';
		$cursor = ($next // '') eq '' ? undef : "'$next'";
		die "$list does not end" if ++$pages > 100;
	} while (defined $cursor);
	return { seen => \@seen, totals => \@totals, pages => $pages };
}

my %lists = (
	list_jobs => [ '', 'jobs', q{item ->> 'id'}, q{SELECT id FROM backfill.jobs ORDER BY created_at DESC, id DESC} ],
	list_dlq => [ '', 'letters', q{item ->> 'id'}, q{SELECT id FROM backfill.dlq ORDER BY failed_at DESC, id DESC} ],
	list_history => [ '', 'history', q{item ->> 'id'}, q{SELECT id FROM backfill.history ORDER BY finished_at DESC, id DESC} ],
	list_audit => [ '', 'entries', q{(item ->> 'node') || ' ' || (item ->> 'id')}, q{SELECT node || ' ' || id FROM backfill.audit ORDER BY at DESC, node, id DESC} ],
	list_queues => [ '', 'queues', q{(item ->> 'queue_name') || ' ' || (item ->> 'node')}, q{SELECT queue_name || ' ' || node FROM backfill.queues ORDER BY queue_name COLLATE "C", node} ],
	list_tasks => [ '', 'tasks', q{(item ->> 'task_identifier') || ' ' || (item ->> 'node')}, q{SELECT task_identifier || ' ' || node FROM backfill.tasks ORDER BY task_identifier COLLATE "C", node} ]);
foreach my $list (sort keys %lists)
{
	my ($arguments, $items, $item, $all) = @{ $lists{$list} };
	my $walked = walk($list, $arguments, $items, $item);
	my @expected = split /\n/, ask($all);
	cmp_ok($walked->{pages}, '>', 2, "$list() has pages");
	is(join("\n", @{ $walked->{seen} }), join("\n", @expected), 'and all of them together are the view, each thing once, in its order');
	my $total = $list =~ /jobs|dlq/ ? scalar @expected : '';
	is(join(' ', grep { $_ ne $total } @{ $walked->{totals} }), '', 'each page says how many there are in all');
}
is(join(',', @{ walk('list_jobs', q{queue_name => 'queue 3', }, 'jobs', q{item ->> 'node'})->{seen} }), ask(q{SELECT node FROM backfill.jobs WHERE queue_name = 'queue 3'}), 'a filter is the nodes\', and an item names its node');
is(scalar(@{ walk('list_dlq', q{search => 'BECAUSE OF dead 1', }, 'letters', q{item ->> 'id'})->{seen} }), 11, 'also a search');
is(ask(q{SELECT count(*) FROM backfill.find_job_ids(1000, job_key => NULL, task_identifier => 't')}), 52, 'find_job_ids() finds those of all nodes');
is(ask(q{SELECT count(DISTINCT id >> 47) FROM backfill.find_job_ids(9, task_identifier => 't') id}), 3, 'up to a number, of each node');
is(ask(q{SELECT string_agg(f::text, ',' ORDER BY f) FROM backfill.find_dlq_ids(100, sqlstate => '22012') f}), ask(q{SELECT string_agg(id::text, ',' ORDER BY id) FROM backfill.dlq}), 'and find_dlq_ids()');

# A job's details, wherever it is, also after a move.
my $id = ask(q{SELECT id FROM backfill.jobs WHERE job_key = 'key 7'});
is(ask("SELECT d ->> 'state', d ->> 'node' = (SELECT node FROM backfill.get_job($id)), d -> 'job' ->> 'job_key' FROM backfill.job_details($id) d"), 'ready|t|key 7', 'job_details()');
my ($from, $to) = map { ask("SELECT name FROM backfill.nodes WHERE number = $_") } ask("SELECT $id >> 47"), ask("SELECT 1 + ($id >> 47) % 3");
ask("CALL backfill.move_slot(backfill._slot_of(NULL, 'key 7'), '$to')");
is(ask("SELECT d ->> 'state', d ->> 'node' FROM backfill.job_details($id) d"), "ready|$to", 'of a job that was moved');
ask('CALL backfill.rebalance()');
is(ask(q{SELECT backfill.job_details(5) IS NULL AND backfill.job_details(140737488355330 + 1000000) IS NULL}), 't', 'of none');
my $ended = ask(q{SELECT id FROM backfill.history WHERE job_key = 'ended 3'});
is(ask("SELECT d ->> 'state', d -> 'history' ->> 'outcome' FROM backfill.job_details($ended) d"), 'ended|completed', 'of one that has ended');

# What is added up.
is(ask(q{SELECT o #> '{jobs,ready,count}', o #> '{jobs,dead,count}', o #> '{jobs,dead,capped}', o #> '{dead_today,count}', o #> '{counters,completed}', (SELECT sum((b #>> '{ready,count}')::int) FROM jsonb_array_elements(o -> 'bands') b), jsonb_array_length(o -> 'queues')
	FROM backfill.overview() o}), ask(q{SELECT (SELECT count(*) FROM backfill.jobs), 30, 'false', 30, '"30"', (SELECT count(*) FROM backfill.jobs), 10}), 'overview() adds up');
is(ask(q{SELECT (SELECT sum(c::int) FROM jsonb_array_elements_text(o #> '{wait,counts}') c), jsonb_array_length(o #> '{wait,counts}') - jsonb_array_length(o #> '{wait,bounds}'), (SELECT count(DISTINCT w ->> 'node') FROM jsonb_array_elements(o -> 'workers') w) FROM backfill.overview() o}), '30|1|3', 'also the histograms, and shows the workers of all nodes');
is(ask(q{SELECT g.value - '{oldest,newest}'::text[] FROM jsonb_array_elements(backfill.dlq_groups() -> 'groups') g}), '{"sample": "no", "letters": {"count": 30, "capped": false}, "sqlstate": "22012", "task_identifier": "t"}', 'dlq_groups() has a group once');
is(ask(q{SELECT string_agg(s ->> 'name' || jsonb_array_length(s -> 'next_runs'), ',') FROM jsonb_array_elements(backfill.list_schedules() -> 'schedules') s}), join(',', map { "s ${_}5" } 1 .. 6), 'list_schedules() has them by name');
$_->safe_psql('postgres', q{SELECT backfill.enqueue('t', queue_name => 'queue 3')}) foreach @nodes; # as handlers do
is(ask(q{SELECT q -> 'concurrency', q #> '{ready,count}', q ->> 'node' = (SELECT node FROM backfill.queues WHERE queue_name = 'queue 3' AND concurrency = 2) FROM backfill.queue_details('queue 3') q}), '2|4|t', 'queue_details() has the limits of its node and the jobs of all');
is(ask(q{SELECT q -> 'node', q #> '{ready,count}' FROM backfill.queue_details('bulk') q}), 'null|' . ask(q{SELECT count(*) FROM backfill.jobs WHERE queue_name = 'bulk'}), 'bulk is on all');
is(ask(q{SELECT backfill.queue_details('none') IS NULL}), 't', 'and what is no queue is none');

# What is changed.
my ($elsewhere) = ask(q{SELECT 'queue ' || i FROM generate_series(100, 200) i JOIN backfill.slot s ON s.slot = backfill._slot_of('queue ' || i, NULL) JOIN backfill.node n ON n.number = s.node WHERE n.name <> (SELECT node FROM backfill.jobs WHERE job_key = 'key 8') LIMIT 1});
my ($here) = ask(q{SELECT 'queue ' || i FROM generate_series(100, 200) i JOIN backfill.slot s ON s.slot = backfill._slot_of('queue ' || i, NULL) JOIN backfill.node n ON n.number = s.node WHERE n.name = (SELECT node FROM backfill.jobs WHERE job_key = 'key 8') LIMIT 1});
$id = ask(q{SELECT id FROM backfill.jobs WHERE job_key = 'key 8'});
is(ask("SELECT payload, priority, queue_name FROM backfill.update_job($id, '5', priority => 3)"), '5|3|bulk', 'update_job() changes a job on its node');
is(ask("SELECT queue_name FROM backfill.update_job($id, queue_name => '$here')"), $here, 'and its queue, if it belongs to the same node there');
like(refusal("SELECT backfill.update_job($id, queue_name => '$elsewhere')"), qr/ERROR:  55000: in queue "$elsewhere" job $id would belong to node "\w", and it is at node "\w"/, 'else it says where the job would belong');
is(ask('SELECT count(*) FROM backfill.update_job(5, priority => 3)'), 0, 'what is no job is not changed');
my $letters = ask(q{SELECT array_agg(id) FROM (SELECT DISTINCT ON (node) id FROM backfill.dlq ORDER BY node, id) d});
is(ask("SELECT count(*) FROM backfill.requeue_dlq_jobs('$letters'::bigint[] || 5::bigint, 'again')"), 3, 'letters of all nodes are requeued by their ids');
is(ask("SELECT count(DISTINCT node) FROM backfill.dlq WHERE notes = 'again'"), 3, 'on each node');
is(ask("SELECT backfill.delete_dlq_jobs('$letters'::bigint[] || 5::bigint), backfill.delete_dlq_jobs('$letters'), backfill.delete_dlq_jobs(NULL), backfill.delete_dlq_jobs('{}')"), '3|0||0', 'and deleted');
is(ask(q{SELECT string_agg(DISTINCT node, ',' ORDER BY node) FROM backfill.audit WHERE action = 'delete_dlq_jobs'}), 'a,b,c', 'which is noted on each node');

# What is wrong with a call is an error, not a missing node.
like(refusal(q{SELECT backfill.list_jobs(state => 'asleep')}), qr/ERROR:  22023: state is not valid: "asleep".*At node "a"/s, 'a wrong filter');
like(refusal(q{SELECT backfill.list_dlq("limit" => 0)}), qr/ERROR:  22023: limit is out of range/, 'a wrong limit');
like(refusal("SELECT backfill.list_jobs(cursor => '$_')"), qr/ERROR:  22023: cursor is not valid/, "the cursor $_") foreach 'jobs.5b6e756c6c2c20312c206e756c6c5d', 'nodes.jobs.zz', 'nodes.jobs.6e', 'nodes.letters.7b7d', 'nodes.jobs.5b5d', '';
like(refusal(q{SELECT backfill.list_jobs(cursor => 'nodes.jobs.' || encode('{"1": "jobs.00"}', 'hex'))}), qr/ERROR:  22023: cursor is not valid: "jobs.00"/, 'a cursor with a wrong one of a node');
like(refusal(q{SELECT backfill.list_jobs(cursor => 'nodes.jobs.' || encode('{"1": {"count": "x"}}', 'hex'))}), qr/ERROR:  22P02/, 'or a wrong total');

# A page in whose range a node has not seen all that it has: what comes behind is not shown before it has been looked at.
my $merge = q{SELECT jsonb_path_query_array(m, '$.letters[*].id'), m -> 'next' <> 'null', m -> 'cut_off', convert_from(decode(substr(m ->> 'next', 15), 'hex'), 'UTF8')::jsonb FROM backfill._page_merge('letters', 3, '[
	{"number": 1, "node": "a", "page": {"letters": [{"id": "9", "failed_at": "2020-01-09T00:00:00+00"}, {"id": "3", "failed_at": "2020-01-03T00:00:00+00"}], "next": null, "cut_off": false, "total": {"count": 5, "capped": false}}},
	{"number": 2, "node": "b", "page": {"letters": [], "next": "letters.%s", "cut_off": true, "total": {"count": 1, "capped": true}}}]', '{}') m};
my $place = sub { return unpack 'H*', qq{["$_[0]", 4, null]} };
my $behind_nine = 'letters.' . unpack('H*', '["2020-01-09T00:00:00+00", 9, null]');
is(ask(sprintf $merge, $place->('2020-01-05T00:00:00+00:00')),
	'["9"]|t|true|{"1": "' . $behind_nine . '", "2": "letters.' . $place->('2020-01-05T00:00:00+00:00') . '"}', 'a page ends where a node has stopped, and goes on there');
is(ask(sprintf $merge, $place->('2020-01-01T00:00:00+00:00')), '["9", "3"]|t|true|{"1": {"count": 5, "capped": false}, "2": "letters.' . $place->('2020-01-01T00:00:00+00:00') . '"}', 'and has all that comes before; a node that has no more is remembered with its total');

# Rights are those of the node.
on_all(q{CREATE ROLE watcher LOGIN; CREATE ROLE worker LOGIN}, $router, @nodes);
ask(q{SELECT backfill.grant_monitor('watcher'), backfill.grant_consumer('worker')});
sub as { my ($role, $sql) = @_; return refusal($sql, extra_params => [ '-U', $role ]); }
my $reads = q{SELECT backfill.list_jobs(), backfill.job_details(1), backfill.list_queues(), backfill.queue_details('bulk'), backfill.list_tasks()};
is(as('worker', $reads), '', 'a consumer has the pages of jobs, queues and tasks');
is(as('watcher', "$reads, backfill.overview(), backfill.list_dlq(), backfill.dlq_groups(), backfill.list_history(), backfill.list_schedules(), backfill.list_audit()"), '', 'a monitor has all');
like(as('watcher', q{SELECT backfill.list_jobs(payload => '{}')}), qr/ERROR:  42501: permission denied to search payloads/, 'without payloads');
like(as('worker', q{SELECT backfill.list_dlq()}), qr/ERROR:  42501/, 'a consumer has no letters');
like(as('watcher', q{SELECT backfill.find_job_ids(5)}), qr/ERROR:  42501/, 'and a monitor does not look for what to change');

# A node that is down is missing, and comes back where it was.
my $first = ask(q{SELECT backfill.list_jobs("limit" => 5) ->> 'next'});
$b->stop('immediate');
like(refusal(q{SELECT backfill.list_jobs()}), qr/WARNING:  08001: node "b" cannot be reached; its rows are missing/, 'of a node that is down there is a warning');
sub quietly { my ($sql) = @_; return ask("SET client_min_messages = error; $sql"); }
is(quietly(q{SELECT backfill.list_jobs() -> 'missing', backfill.list_jobs() #> '{total,capped}', backfill.overview() -> 'missing', backfill.overview() #> '{jobs,ready,capped}', backfill.queue_details('bulk') -> 'missing'}), '["b"]|true|["b"]|true|["b"]', 'and it is named');
is(quietly(q{SELECT backfill.list_jobs("limit" => 500) ->> 'next' IS NULL}), 't', 'the last page of those that are there is the last one');
my $second = quietly("SELECT backfill.list_jobs(cursor => '$first', \"limit\" => 5) ->> 'next'");
like(quietly(q{SELECT count(*) FROM backfill.find_job_ids(1000)}), qr/^\d+$/, 'ids are found on the others');
like(refusal("SELECT backfill.delete_dlq_jobs(ARRAY(SELECT generate_series(1, 63)::bigint << 47) || '$letters'::bigint[])"), qr/ERROR:  08001: delete_dlq_jobs\(\) has failed on 1 of 3 nodes: "b": node "b" cannot be reached/, 'what is to be changed there is an error');
$b->start;
my $of_b = q{SELECT string_agg(j ->> 'id', ',') FROM jsonb_array_elements(backfill.list_jobs("limit" => 500, cursor => '%s') -> 'jobs') j WHERE j ->> 'node' = 'b'};
is(ask(sprintf $of_b, $second), ask(sprintf $of_b, $first), 'a page after it has come back has what was left out');

check_log($_) foreach @nodes;
done_testing();

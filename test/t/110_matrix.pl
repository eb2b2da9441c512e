# What each right may do to a job in each state: docs/matrix.md, made from what really happens.
# Every operation on a job is tried on a job of every state, with a key and without, by every right,
# and taken back. The jobs that run do so in live executors. If the table is wrong this test fails;
# to write it anew, after a change that is meant, run
#     MATRIX_OUT=/tmp/matrix.md test/lib/run.sh tap test/t/110_matrix.pl
# and copy the file (the server's user writes it) to docs/.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib "$FindBin::RealBin/../lib";

use Backfill;
use PostgreSQL::Test::Utils;
use Test::More;

my @rights = ('owner', 'admin', 'consumer', 'producer', 'producer of this task', 'producer of others', 'monitor', 'none');
my @states = ('scheduled', 'ready', 'running', 'procedure', 'leased', 'dead', 'requeued');

# An operation: what the document calls it, the statement, whether it needs a key. In it $1 is the
# job's id, $2 its key, $3 its claim token, $4 its dead letter, $5 the task that the caller enqueues.
my @operations = (
	[ 'Enqueue with its key', undef ],
	[ q{enqueue(..., job_key)}, q{SELECT backfill.enqueue($5, '"new"', job_key => $2)}, 1 ],
	[ q{enqueue(..., job_key, 'preserve_run_at')}, q{SELECT backfill.enqueue($5, '"new"', job_key => $2, job_key_mode => 'preserve_run_at')}, 1 ],
	[ q{enqueue(..., job_key, 'unsafe_dedupe')}, q{SELECT backfill.enqueue($5, '"new"', job_key => $2, job_key_mode => 'unsafe_dedupe')}, 1 ],
	[ q{add_job(..., job_key)}, q{SELECT backfill.add_job($5, '"new"', job_key => $2)}, 1 ],
	[ q{add_job(..., job_key, 'preserve_run_at')}, q{SELECT backfill.add_job($5, '"new"', job_key => $2, job_key_mode => 'preserve_run_at')}, 1 ],
	[ q{add_job(..., job_key, 'unsafe_dedupe')}, q{SELECT backfill.add_job($5, '"new"', job_key => $2, job_key_mode => 'unsafe_dedupe')}, 1 ],
	[ 'Control', undef ],
	[ q{remove_job(job_key)}, q{SELECT backfill.remove_job($2)}, 1 ],
	[ q{cancel_job(id)}, q{SELECT backfill.cancel_job($1)} ],
	[ q{reschedule_jobs(ids, priority => 7)}, q{SELECT backfill.reschedule_jobs(ARRAY[$1], priority => 7)} ],
	[ q{reschedule_jobs(ids, attempts => 0)}, q{SELECT backfill.reschedule_jobs(ARRAY[$1], attempts => 0)} ],
	[ q{update_job(id, payload)}, q{SELECT backfill.update_job($1, '"new"')} ],
	[ q{update_job(id, priority => 7)}, q{SELECT backfill.update_job($1, priority => 7)} ],
	[ q{complete_jobs(ids)}, q{SELECT backfill.complete_jobs(ARRAY[$1])} ],
	[ q{permanently_fail_jobs(ids)}, q{SELECT backfill.permanently_fail_jobs(ARRAY[$1], 'not needed')} ],
	[ q{fail_jobs(ids)}, q{SELECT backfill.fail_jobs(ARRAY[$1], 'not needed')} ],
	[ q{add_to_dlq(id, reason)}, q{SELECT backfill.add_to_dlq($1, 'not needed')} ],
	[ 'Dead letters', undef ],
	[ q{requeue_dlq_job(dlq_id)}, q{SELECT backfill.requeue_dlq_job($4)} ],
	[ q{requeue_dlq_jobs(task)}, q{SELECT backfill.requeue_dlq_jobs('matrix')} ],
	[ q{requeue_dlq_jobs(dlq_ids)}, q{SELECT backfill.requeue_dlq_jobs(ARRAY[$4])} ],
	[ q{update_dlq_job(dlq_id, payload)}, q{SELECT backfill.update_dlq_job($4, '"corrected"')} ],
	[ q{delete_dlq_job(dlq_id)}, q{SELECT backfill.delete_dlq_job($4)} ],
	[ q{delete_dlq_jobs(dlq_ids)}, q{SELECT backfill.delete_dlq_jobs(ARRAY[$4])} ],
	[ q{delete_dlq_by_job_key(job_key)}, q{SELECT backfill.delete_dlq_by_job_key($2)}, 1 ],
	[ 'Consumers', undef ],
	[ q{complete_jobs(ids, claim_token)}, q{SELECT backfill.complete_jobs(ARRAY[$1], $3)} ],
	[ q{fail_job(id, claim_token, error)}, q{SELECT backfill.fail_job($1, $3, 'busy', false)} ],
	[ q{fail_job(id, claim_token, error, true)}, q{SELECT backfill.fail_job($1, $3, 'no', true)} ],
	[ q{snooze_job(id, claim_token, delay)}, q{SELECT backfill.snooze_job($1, $3, '1 hour')} ],
	[ q{release_jobs(ids, claim_token)}, q{SELECT backfill.release_jobs(ARRAY[$1], $3)} ],
	[ q{heartbeat(claim_token)}, q{SELECT backfill.heartbeat($3, '2 days')} ],
	[ 'Looking', undef ],
	[ q{get_job(id)}, q{SELECT backfill.get_job($1)} ],
	[ q{get_dlq_job(dlq_id)}, q{SELECT backfill.get_dlq_job($4)} ],
	[ q{list_dlq_jobs()}, q{SELECT backfill.list_dlq_jobs()} ],
	[ q{SELECT ... FROM backfill.jobs}, q{SELECT j FROM backfill.jobs j WHERE j.id = $1} ],
	[ q{SELECT ... FROM backfill.dlq}, q{SELECT d FROM backfill.dlq d WHERE d.id = $4} ],
);

my $node = preloaded('matrix', conf => "backfill.max_executors = 8\nbackfill.poll_interval = '60s'\n");
create_extension($node);
$node->safe_psql('postgres', q{
	CREATE SCHEMA matrix;
	CREATE FUNCTION matrix.wait(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock_shared(1)';
	CREATE PROCEDURE matrix.wait_in_procedure(payload jsonb) LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(1); COMMIT; END';
	SELECT backfill.register_task('matrix'), backfill.register_task('other'),
	       backfill.register_task('running', 'matrix.wait(jsonb)'), backfill.register_task('procedure', 'matrix.wait_in_procedure(jsonb)');
	CREATE ROLE "as admin"; CREATE ROLE "as consumer"; CREATE ROLE "as producer"; CREATE ROLE "as producer of this task";
	CREATE ROLE "as producer of others"; CREATE ROLE "as monitor"; CREATE ROLE "as none";
	SELECT backfill.grant_admin('"as admin"'), backfill.grant_consumer('"as consumer"'), backfill.grant_producer('"as producer"'), backfill.grant_monitor('"as monitor"'),
	       backfill.grant_producer('"as producer of this task"', '{matrix,running,procedure}'), backfill.grant_producer('"as producer of others"', '{other}');

	-- All there is of a job.
	CREATE TYPE matrix.look AS (job jsonb, letter jsonb, others bigint, last_run boolean);
	CREATE FUNCTION matrix.look(id bigint, key text) RETURNS matrix.look LANGUAGE sql AS $$
		SELECT (SELECT to_jsonb(j) - 'worker' || jsonb_build_object('token', r.claim_token) FROM backfill.jobs j JOIN backfill.job r ON r.id = j.id WHERE j.id = look.id),
		       (SELECT to_jsonb(d) FROM backfill.dead_letter d WHERE d.original_job_id = look.id),
		       (SELECT count(*) FROM backfill.job j WHERE j.job_key = look.key AND j.id <> look.id),
		       EXISTS (SELECT FROM backfill.no_retry n WHERE n.job_id = look.id)
	$$;
	-- What has become of it, in words.
	CREATE FUNCTION matrix.difference(before matrix.look, after matrix.look) RETURNS text LANGUAGE sql AS $$
		SELECT concat_ws(', ',
			CASE WHEN (before).job IS NOT NULL AND (after).job IS NULL THEN CASE WHEN (after).letter IS NOT NULL THEN 'dead' ELSE 'gone' END
			     WHEN (before).job IS NULL AND (after).job IS NOT NULL THEN 'waits again'
			     WHEN (before).job IS NULL AND (after).letter IS NULL THEN 'gone'
			     WHEN (before).job - 'payload' = (after).job - 'payload' AND (before).job <> (after).job THEN 'changed'
			     WHEN (before).job ->> 'payload' <> (after).job ->> 'payload' THEN
			         CASE WHEN (before).job ->> 'run_at' = (after).job ->> 'run_at' THEN 'replaced, same time' ELSE 'replaced' END
			     WHEN (before).job ->> 'state' = 'leased' AND (after).job ->> 'state' <> 'leased' THEN 'waits again'
			     WHEN (before).job ->> 'lease_expires_at' <> (after).job ->> 'lease_expires_at' THEN 'longer lease'
			     WHEN (before).job <> (after).job THEN 'changed' END,
			CASE WHEN (before).letter IS NULL OR (before).job IS NULL AND (after).job IS NOT NULL OR (before).job IS NOT NULL AND (after).job IS NULL THEN NULL
			     WHEN (after).letter IS NULL THEN CASE WHEN (after).job IS NOT NULL THEN 'letter gone' END
			     WHEN (before).letter <> (after).letter THEN 'letter changed' END,
			CASE WHEN (after).others > (before).others THEN 'new job beside' END,
			CASE WHEN (after).last_run AND NOT (before).last_run THEN 'not retried' END)
	$$;

	CREATE FUNCTION matrix.try(call text, state text, keyed boolean, rights text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		id bigint;
		token bigint := 1;
		letter bigint := -1;
		key text := CASE WHEN keyed THEN 'the key' END;
		before matrix.look;
		result text;
	BEGIN
		IF state IN ('running', 'procedure') THEN
			key := key || ' ' || state;
			SELECT j.id, coalesce(j.claim_token, 1) INTO STRICT id, token
			  FROM backfill.job j WHERE j.task_identifier = state AND j.job_key IS NOT DISTINCT FROM key;
		ELSE
			id := backfill.enqueue('matrix', '"secret"', job_key => key, headers => '{"baggage": "secret"}',
			                       run_at => now() + CASE state WHEN 'scheduled' THEN interval '1 day' WHEN 'ready' THEN interval '-1 minute' ELSE '0' END);
		END IF;
		IF state = 'leased' THEN
			SELECT c.claim_token INTO STRICT token FROM backfill.claim_jobs('w', tasks => '{matrix}', lease => '1 day') c;
		ELSIF state IN ('dead', 'requeued') THEN
			letter := backfill.add_to_dlq(id, 'by hand');
		END IF;
		IF state = 'requeued' THEN
			PERFORM backfill.requeue_dlq_job(letter);
		END IF;
		before := matrix.look(id, key);
		IF rights <> 'owner' THEN
			EXECUTE format('SET LOCAL ROLE %I', 'as ' || rights);
		END IF;
		-- All rows; in a subquery, so that a function in the target list gives them all.
		EXECUTE format('SELECT string_agg(r::text, E''\n'') FROM (%s) c(r)', call)
		   INTO result USING id, key, token, letter, CASE WHEN rights = 'producer of others' THEN 'other' WHEN state IN ('running', 'procedure') THEN state ELSE 'matrix' END;
		RESET ROLE;
		RAISE SQLSTATE 'UNDO1' USING MESSAGE = coalesce(nullif(concat_ws('; ', nullif(matrix.difference(before, matrix.look(id, key)), ''),
			CASE WHEN result ~ 'secret|new' THEN 'payload shown' WHEN result ~ '^\(' THEN 'payload hidden' END), ''), 'nothing');
	EXCEPTION
		WHEN SQLSTATE 'UNDO1' THEN RETURN sqlerrm;
		WHEN insufficient_privilege THEN RETURN 'denied';
		WHEN object_not_in_prerequisite_state OR undefined_object THEN RETURN 'error';
	END;
	$$;
});

# Jobs that run, as long as the gate is closed; in a queue of their own, which has no limit.
my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(1)');
for my $task ('running', 'procedure')
{
	$node->safe_psql('postgres', qq{SELECT backfill.enqueue('$task', '"secret"', 'live', job_key => 'the key $task'), backfill.enqueue('$task', '"secret"', 'live')});
}
wait_until($node, 'postgres', q{SELECT count(*) = 4 FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND mode = 'ShareLock' AND NOT granted}, 'four jobs run');

# A run of its own is ended by cancel_job(), whatever becomes of the transaction.
sub cancel_live
{
	my ($task, $keyed, $right) = @_;
	my $key = $keyed ? q{, job_key => 'to cancel'} : '';
	my $id = $node->safe_psql('postgres', qq{SELECT backfill.enqueue('$task', '"secret"', 'live'$key)});
	$node->poll_query_until('postgres', qq{SELECT EXISTS (SELECT FROM backfill.workers WHERE job_id = $id)}) or die "job $id does not run";
	my $role = $right eq 'owner' ? '' : qq{SET ROLE "as $right";};
	my $result = $node->safe_psql('postgres', "$role SELECT backfill.cancel_job($id)");
	return "returned $result" if $result ne 't';
	$node->poll_query_until('postgres', qq{SELECT NOT EXISTS (SELECT FROM backfill.job WHERE id = $id)}) or return 'still there';
	return $node->safe_psql('postgres', qq{SELECT CASE WHEN count(*) = 0 THEN 'gone' ELSE 'dead' END FROM backfill.dead_letter WHERE original_job_id = $id});
}

my %cells; # operation, right, state, with a key or not
for my $operation (grep { defined $_->[1] } @operations)
{
	my ($name, $call, $needs_key) = @$operation;
	my $live = $name =~ /^cancel_job/ ? q{AND NOT (s IN ('running', 'procedure') AND r IN ('owner', 'admin'))} : '';
	my $list = sub { join ', ', map { "('$_')" } @_ };
	my $rows = $node->safe_psql('postgres', sprintf(
			q{SET client_min_messages = error; SELECT r || '|' || s || '|' || k::int || '|' || matrix.try($call$%s$call$, s, k, r)
			    FROM (VALUES %s) rights(r), (VALUES %s) states(s), (VALUES %s) keyed(k) WHERE true %s},
			$call, $list->(@rights), $list->(@states), $needs_key ? '(true)' : '(true), (false)', $live));
	for (split /\n/, $rows)
	{
		my ($right, $state, $keyed, $outcome) = split /\|/, $_, 4;
		$cells{$name}{$right}{$state}[$keyed] = $outcome;
	}
	next if !$live;
	for my $right ('owner', 'admin')
	{
		for my $state ('running', 'procedure')
		{
			$cells{$name}{$right}{$state}[$_] = cancel_live($state, $_, $right) for 0, 1;
		}
	}
}

# What must hold whatever the table says.
my (@of_others, @shown, @powerless, @missing);
for my $name (sort keys %cells)
{
	for my $right (@rights)
	{
		for my $state (@states)
		{
			my @outcomes = grep { defined } @{ $cells{$name}{$right}{$state} // [] };
			push @missing, "$name, $right, $state" if !@outcomes;
			for my $outcome (@outcomes)
			{
				my $cell = "$name, $right, $state: $outcome";
				push @of_others, $cell if $right eq 'producer of others' && $outcome !~ /^(denied|nothing|new job beside|new job beside; payload hidden)$/;
				push @of_others, $cell if $right eq 'producer of others' && $outcome =~ /beside/ && $state ne 'dead';
				push @shown, $cell if $outcome =~ /payload shown/ && $right !~ /^(owner|admin|consumer)$/;
				push @powerless, $cell if $right eq 'none' && $outcome ne 'denied';
				push @powerless, $cell if $right eq 'monitor' && $outcome !~ /^(denied|nothing|payload hidden)$/;
			}
		}
	}
}
is_deeply(\@missing, [], 'every operation was tried by every right on every state');
is_deeply(\@of_others, [], 'a producer of other tasks neither changes nor sees a job');
is_deeply(\@shown, [], 'payloads are shown only to roles that may read backfill.job');
is_deeply(\@powerless, [], 'without rights all is denied, and a monitor changes nothing');

# The document.
sub cell_text
{
	my ($without, $with) = @_;
	return $with // $without if !defined $with || !defined $without || $with eq $without;
	return "$with (without a key: $without)";
}
my $document = <<'END';
# What each right may do to a job in each state

Made and checked by `test/t/110_matrix.pl`, which tries all of it. The states are those of the view
`backfill.jobs`; *procedure* is a running job whose handler is a procedure, *leased* one that an external
consumer has, *dead* a dead letter, *requeued* a dead letter whose job waits again.

Rights are those of the bundles: `grant_admin()`, `grant_consumer()`, `grant_producer(role)`,
`grant_producer(role, tasks)` with the job's task (*producer of this task*) or with others only (*producer of
others*, which tries to enqueue one of these), `grant_monitor()`; *none* has none. *Owner* is the owner of the
extension, or a superuser.

| word | meaning |
|---|---|
| denied | an error: permission denied |
| error | an error: there is no such letter, or its job is in the wrong state |
| nothing | the job stays as it is; the function returns false, no row, or the id of the job that is there |
| gone | neither the job nor a letter of it is there |
| dead | in the dead letter queue |
| waits again | ready, or scheduled for later |
| replaced | its id stays, all else is of the new job; *same time*: its `run_at`, too |
| not retried | this run is its last |
| payload shown, hidden | the row that is returned has the payload, or NULL in its place |
END
for my $operation (@operations)
{
	my ($name, $call) = @$operation;
	if (!defined $call)
	{
		$document .= "\n## $name\n";
		next;
	}
	my (@groups, @denied);
	for my $right (@rights)
	{
		my @row = map { cell_text(@{ $cells{$name}{$right}{$_} }) } @states;
		if (!grep { $_ ne 'denied' } @row)
		{
			push @denied, $right;
			next;
		}
		my $line = join ' | ', @row;
		my ($group) = grep { $_->{line} eq $line } @groups;
		push @groups, $group = { line => $line, rights => [] } if !$group;
		push @{ $group->{rights} }, $right;
	}
	$document .= "\n`$name`\n\n";
	if (@groups)
	{
		$document .= '| | ' . join(' | ', @states) . " |\n" . '|---' x (@states + 1) . "|\n";
		$document .= '| ' . join(', ', @{ $_->{rights} }) . " | $_->{line} |\n" for @groups;
		$document .= "\n" if @denied;
	}
	$document .= 'Denied: ' . join(', ', @denied) . ".\n" if @denied;
}
my $file = "$FindBin::RealBin/../../docs/matrix.md";
append_to_file($ENV{MATRIX_OUT}, $document) if defined $ENV{MATRIX_OUT};
my $expected = -e $file ? slurp_file($file) : '';
my @expected = split /\n/, $expected;
my @got = split /\n/, $document;
is(scalar @got, scalar @expected, 'docs/matrix.md has as many lines');
my @different = grep { ($got[$_] // '') ne ($expected[$_] // '') } 0 .. ($#got > $#expected ? $#got : $#expected);
is(scalar @different, 0, 'docs/matrix.md says what happens');
diag(sprintf("line %d:\n  it says   %s\n  should be %s", $_ + 1, map { $_ // '(nothing)' } $expected[$_], $got[$_])) for grep { defined } @different[ 0 .. 7 ];

$gate->query_safe('SELECT pg_advisory_unlock(1)');
$gate->quit;
$node->stop;
done_testing();

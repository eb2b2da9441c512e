-- grant_producer(role, tasks): a producer of some tasks can enqueue these and no others, by
-- whatever function, and cannot touch other tasks' jobs by way of a key.
BEGIN;
SELECT no_plan();

CREATE ROLE regress_all LOGIN;
CREATE ROLE regress_some LOGIN;
CREATE ROLE regress_none LOGIN;
CREATE ROLE regress_member LOGIN;
SELECT backfill.grant_producer('regress_all');
SELECT backfill.grant_producer('regress_some', '{mail,report}');
SELECT backfill.grant_producer('regress_none', '{}');

SET ROLE regress_all;
SELECT lives_ok($$SELECT backfill.enqueue('anything')$$, 'without a list every task is allowed');

SET ROLE regress_none;
SELECT throws_ok($$SELECT backfill.enqueue('mail')$$, '42501', 'permission denied to enqueue task "mail"', 'with an empty list no task is allowed');

SET ROLE regress_some;
SELECT lives_ok($$SELECT backfill.enqueue('mail')$$, 'a task of the list is allowed');
SELECT lives_ok($$SELECT backfill.enqueue('report')$$, 'another task of the list is allowed as well');
SELECT throws_ok($$SELECT backfill.enqueue('payroll')$$, '42501', 'permission denied to enqueue task "payroll"', 'a task that is not in the list is refused');
SELECT throws_ok($$SELECT backfill.enqueue('Mail')$$, '42501', NULL, 'names are exact');
SELECT throws_ok($$SELECT backfill.enqueue_fast('payroll')$$, '42501', NULL, 'enqueue_fast() asks, too');
SELECT throws_ok($$SELECT backfill.enqueue_bulk('payroll')$$, '42501', NULL, 'enqueue_bulk()');
SELECT throws_ok($$SELECT backfill.enqueue_emergency('payroll')$$, '42501', NULL, 'enqueue_emergency()');
SELECT throws_ok($$SELECT backfill.enqueue_critical('payroll')$$, '42501', NULL, 'enqueue_critical()');
SELECT throws_ok($$SELECT backfill.enqueue_fast_with_retries('payroll')$$, '42501', NULL, 'enqueue_fast_with_retries()');
SELECT throws_ok($$SELECT backfill.enqueue_bulk_with_retries('payroll')$$, '42501', NULL, 'enqueue_bulk_with_retries()');
SELECT throws_ok($$SELECT backfill.enqueue_serial('payroll', '{}', 'q')$$, '42501', NULL, 'enqueue_serial()');
SELECT throws_ok($$SELECT backfill.enqueue_many('payroll', ARRAY['1']::jsonb[])$$, '42501', NULL, 'enqueue_many()');
SELECT throws_ok($$SELECT backfill.enqueue_jobs('[{"task_identifier": "mail"}, {"task_identifier": "payroll"}]')$$, '42501', NULL, 'enqueue_jobs()');
RESET ROLE;
SELECT results_eq($$SELECT task_identifier COLLATE "default", count(*) FROM backfill.jobs GROUP BY 1 ORDER BY 1$$,
                  $$VALUES ('anything', 1::bigint), ('mail', 1), ('report', 1)$$, 'what was refused left nothing');

-- A key that a job of another task has.
SELECT backfill.enqueue('payroll', '["secret"]', job_key => 'k');
SET ROLE regress_some;
SELECT throws_ok($$SELECT backfill.enqueue('mail', '["spy"]', job_key => 'k')$$, '42501', NULL, 'a key does not replace the job of a task that the producer may not enqueue');
SELECT throws_ok($$SELECT backfill.enqueue('mail', '["spy"]', job_key => 'k', job_key_mode => 'preserve_run_at')$$, '42501', NULL, 'a key of another task cannot be used with preserve_run_at');
RESET ROLE;
SELECT results_eq($$SELECT task_identifier COLLATE "default", payload FROM backfill.jobs WHERE job_key = 'k'$$, $$VALUES ('payroll', '["secret"]'::jsonb)$$, 'that job is as it was');

-- ... also while a consumer has it, or when the key is only to be deduplicated.
SELECT backfill.enqueue('payroll', '["secret"]', 'apart', max_attempts => 5, job_key => 'leased') AS leased_id \gset
SELECT is(id, :leased_id::bigint, 'a consumer has leased the job') FROM backfill.claim_jobs('w', queues => '{apart}', tasks => '{payroll}') WHERE job_key = 'leased';
SET ROLE regress_some;
SELECT throws_ok(format($$SELECT backfill.%s('mail', job_key => %L, job_key_mode => %L)$$, f, key, mode), '42501', format('permission denied for job_key "%s"', key),
                 format('%s() with the key of another task''s job, %s, %s', f, key, mode))
  FROM unnest('{enqueue,add_job}'::text[]) f, unnest('{k,leased}'::text[]) key, unnest('{replace,preserve_run_at,unsafe_dedupe}'::text[]) mode
 ORDER BY key, mode, f;
SELECT throws_ok($$SELECT backfill.enqueue_jobs('[{"task_identifier": "mail", "job_key": "leased"}]')$$, '42501', NULL, 'enqueue_jobs() with that key');
SELECT throws_ok($$SELECT backfill.add_jobs(ARRAY[('mail', NULL, NULL, NULL, NULL, 'leased', NULL, NULL)]::backfill.job_spec[])$$, '42501', NULL, 'add_jobs() with that key');
RESET ROLE;
SELECT is(backfill.fail_job(id, claim_token, 'busy'), 'retry', 'its failure is retried: nothing has superseded it') FROM backfill.job WHERE job_key = 'leased';
SELECT results_eq($$SELECT job_key COLLATE "default", task_identifier COLLATE "default" FROM backfill.job WHERE job_key IS NOT NULL ORDER BY 1$$,
                  $$VALUES ('k', 'payroll'), ('leased', 'payroll')$$, 'the jobs of both keys are there');

-- Dead letters with one key, of two tasks, are two: neither overwrites nor settles the other.
SELECT backfill.add_to_dlq(backfill.enqueue('payroll', '["secret"]', job_key => 'dead', queue_name => 'q', priority => 3), 'by hand') AS letter \gset
SET ROLE regress_some;
SELECT lives_ok($$SELECT backfill.enqueue('mail', '"fails"', job_key => 'dead')$$, 'the key of a dead letter is free');
RESET ROLE;
SELECT backfill.fail_job(id, claim_token, 'not found') FROM backfill.claim_jobs('w', tasks => '{mail}', max_jobs => 9) WHERE job_key = 'dead';
SELECT results_eq($$SELECT task_identifier COLLATE "default", payload, queue_name COLLATE "default", priority::int FROM backfill.dlq WHERE job_key = 'dead' ORDER BY id$$,
                  $$VALUES ('payroll', '["secret"]'::jsonb, 'q', 3), ('mail', '"fails"', 'bulk', 0)$$, 'a job that fails for good leaves another task''s letter alone');
SET ROLE regress_some;
SELECT backfill.enqueue('mail', '"succeeds"', job_key => 'dead');
RESET ROLE;
SELECT backfill.complete_jobs(ARRAY[id], claim_token) FROM backfill.claim_jobs('w', tasks => '{mail}', max_jobs => 9) WHERE job_key = 'dead';
SELECT results_eq($$SELECT id, task_identifier COLLATE "default" FROM backfill.dlq WHERE job_key = 'dead'$$, format($$VALUES (%s::bigint, 'payroll')$$, :letter), 'success settles the letter of its own task');
DELETE FROM backfill.job WHERE job_key IN ('k', 'leased');

-- What add_job() returns: nothing of a job that its caller could not read in the table.
SELECT backfill.enqueue('mail', '["private"]', job_key => 'shared', run_at => '2100-01-01', retry_policy => 'fast', headers => '{"baggage": "private"}');
UPDATE backfill.job SET last_error = '{"message": "private"}', worker = 'w', claim_token = 5 WHERE job_key = 'shared';
SELECT backfill.grant_consumer('regress_all');
SELECT backfill.grant_producer('regress_all');
CREATE FUNCTION pg_temp.added(mode text) RETURNS TABLE (task text, payload jsonb, headers jsonb, error jsonb, worker text) LANGUAGE sql AS $$
    SELECT j.task_identifier, j.payload, j.headers, j.last_error, j.worker FROM backfill.add_job('mail', '["more"]', job_key => 'shared', job_key_mode => mode) j
$$;
SET ROLE regress_some;
SELECT results_eq($$SELECT * FROM pg_temp.added('unsafe_dedupe')$$, $$VALUES ('mail', NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL)$$, 'add_job() shows a producer neither payload, headers, error nor worker of the job that is there');
SELECT results_eq($$SELECT * FROM pg_temp.added('preserve_run_at')$$, $$VALUES ('mail', NULL::jsonb, NULL::jsonb, NULL::jsonb, NULL)$$, 'a producer does not get the payload that it has added to');
RESET ROLE;
SET ROLE regress_all;
SELECT results_eq($$SELECT task, payload FROM pg_temp.added('unsafe_dedupe')$$, $$VALUES ('mail', '["private", "more"]'::jsonb)$$, 'a role that may read the table gets the payload');
RESET ROLE;

-- Granting again replaces the list.
SELECT backfill.grant_producer('regress_some', '{payroll}');
SET ROLE regress_some;
SELECT lives_ok($$SELECT backfill.enqueue('payroll')$$, 'a new list allows what is in it');
SELECT throws_ok($$SELECT backfill.enqueue('mail')$$, '42501', NULL, 'a new list no longer allows what was in the old one');
RESET ROLE;
SELECT backfill.grant_producer('regress_some');
SET ROLE regress_some;
SELECT lives_ok($$SELECT backfill.enqueue('mail')$$, 'no list allows everything again');
RESET ROLE;
SELECT backfill.grant_producer('regress_some', '{mail}');

-- Membership: what any of the roles may, the member may.
GRANT regress_some TO regress_member;
SET ROLE regress_member;
SELECT lives_ok($$SELECT backfill.enqueue('mail')$$, 'a member may what the role may');
SELECT throws_ok($$SELECT backfill.enqueue('payroll')$$, '42501', NULL, 'the new list allows no other task');
RESET ROLE;
GRANT regress_none TO regress_member;
SET ROLE regress_member;
SELECT lives_ok($$SELECT backfill.enqueue('mail')$$, 'a second role takes nothing away');
RESET ROLE;
GRANT regress_all TO regress_member;
SET ROLE regress_member;
SELECT lives_ok($$SELECT backfill.enqueue('payroll')$$, 'a role without a list lifts the limit');
RESET ROLE;

-- A superuser is not limited; a list changed by hand counts in this very session.
SELECT lives_ok($$SELECT backfill.enqueue('payroll')$$, 'a superuser enqueues everything');
UPDATE backfill.producer SET tasks = '{other}' WHERE role_name::text = 'regress_some';
SET ROLE regress_some;
SELECT throws_ok($$SELECT backfill.enqueue('mail')$$, '42501', NULL, 'a changed list counts at once');
RESET ROLE;

-- SECURITY DEFINER functions of the user's own: the definer's rights count, as everywhere.
CREATE FUNCTION pg_temp.pay() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT backfill.enqueue('payroll') $$;
SET ROLE regress_some;
SELECT lives_ok($$SELECT pg_temp.pay()$$, 'a definer''s function enqueues what its owner may');
RESET ROLE;

-- EXECUTE alone admits no role: not by a grant by hand, nor by one to PUBLIC, nor when the row is gone.
CREATE ROLE regress_bare LOGIN;
GRANT USAGE ON SCHEMA backfill TO regress_bare;
GRANT EXECUTE ON FUNCTION backfill.enqueue TO regress_bare;
SELECT is(detail, 'roles with EXECUTE on backfill.enqueue() that may enqueue no task: regress_bare', 'health() names it')
  FROM backfill.health() WHERE check_name = 'producers' AND status = 'warning';
GRANT EXECUTE ON FUNCTION backfill.enqueue TO PUBLIC;
SET ROLE regress_bare;
SELECT throws_ok($$SELECT backfill.enqueue('mail')$$, '42501', 'permission denied to enqueue task "mail"', 'EXECUTE is not enough');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION backfill.enqueue FROM PUBLIC;
SELECT backfill.grant_producer('regress_bare');
SET ROLE regress_bare;
SELECT lives_ok($$SELECT backfill.enqueue('mail')$$, 'grant_producer() admits it');
RESET ROLE;
SELECT is((SELECT status FROM backfill.health() WHERE check_name = 'producers'), 'ok', 'health() is content with the grants');
DELETE FROM backfill.producer WHERE role_name::text = 'regress_bare';
SET ROLE regress_bare;
SELECT throws_ok($$SELECT backfill.enqueue('mail')$$, '42501', NULL, 'the right ends with the row in backfill.producer');
RESET ROLE;

-- Admins enqueue, too; one that was limited stays limited.
CREATE ROLE regress_chief LOGIN;
SELECT backfill.grant_admin('regress_chief');
SET ROLE regress_chief;
SELECT lives_ok($$SELECT backfill.enqueue('mail')$$, 'an admin enqueues everything');
RESET ROLE;
SELECT backfill.grant_producer('regress_chief', '{mail}'), backfill.grant_admin('regress_chief');
SET ROLE regress_chief;
SELECT throws_ok($$SELECT backfill.enqueue('payroll')$$, '42501', NULL, 'unless it is a producer of some tasks');
RESET ROLE;

-- A role is not its name.
SELECT backfill.grant_producer('regress_some', '{mail}');
ALTER ROLE regress_some RENAME TO regress_renamed;
SET ROLE regress_renamed;
SELECT lives_ok($$SELECT backfill.enqueue('mail')$$, 'a renamed role may what it could');
SELECT throws_ok($$SELECT backfill.enqueue('payroll')$$, '42501', 'permission denied to enqueue task "payroll"', 'the renamed role may enqueue no other task');
RESET ROLE;
CREATE ROLE regress_heir;
GRANT regress_renamed TO regress_heir;
SET ROLE regress_heir;
SELECT lives_ok($$SELECT backfill.enqueue('mail')$$, 'a member of the renamed role may what it may');
SELECT throws_ok($$SELECT backfill.enqueue('payroll')$$, '42501', 'permission denied to enqueue task "payroll"', 'the member may enqueue no other task');
RESET ROLE;
CREATE ROLE regress_some LOGIN;
GRANT USAGE ON SCHEMA backfill TO regress_some;
GRANT EXECUTE ON FUNCTION backfill.enqueue TO regress_some;
SET ROLE regress_some;
SELECT throws_ok($$SELECT backfill.enqueue('mail')$$, '42501', NULL, 'another role that takes the old name gets nothing');
RESET ROLE;
SELECT results_eq($$SELECT role_name::text, tasks FROM backfill.producer WHERE role_name::text ~ 'renamed|some'$$,
                  $$VALUES ('regress_renamed', '{mail}'::text[])$$, 'the list has followed the role');
DROP OWNED BY regress_bare, regress_none;
REVOKE regress_none FROM regress_member;
DROP ROLE regress_none;
CREATE ROLE regress_none LOGIN;
GRANT USAGE ON SCHEMA backfill TO regress_none;
GRANT EXECUTE ON FUNCTION backfill.enqueue TO regress_none;
UPDATE backfill.producer SET tasks = NULL WHERE role_name::text = 'regress_none (missing)';
SET ROLE regress_none;
SELECT throws_ok($$SELECT backfill.enqueue('mail')$$, '42501', NULL, 'a role that is dropped and made again is another one');
RESET ROLE;
SELECT isnt_empty($$SELECT FROM backfill.producer WHERE role_name::text = 'regress_none (missing)'$$, 'what the dropped one had is shown as such');
SELECT lives_ok($$SELECT backfill.grant_producer('regress_none', '{mail}')$$, 'the new one can be granted the same');
SELECT results_eq($$SELECT role_name::text, tasks FROM backfill.producer WHERE role_name::text ~ 'none'$$, $$VALUES ('regress_none', '{mail}'::text[])$$,
                  'the remains of the old grant are gone');

SELECT * FROM finish();
ROLLBACK;

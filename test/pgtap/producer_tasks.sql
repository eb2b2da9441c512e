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
SELECT throws_ok($$SELECT backfill.enqueue('mail')$$, '42501', 'permission denied to enqueue task "mail"', 'with an empty list none is');

SET ROLE regress_some;
SELECT lives_ok($$SELECT backfill.enqueue('mail')$$, 'a task of the list is allowed');
SELECT lives_ok($$SELECT backfill.enqueue('report')$$, 'another one as well');
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
SELECT throws_ok($$SELECT backfill.enqueue('mail', '["spy"]', job_key => 'k', job_key_mode => 'preserve_run_at')$$, '42501', NULL, 'nor with preserve_run_at');
RESET ROLE;
SELECT results_eq($$SELECT task_identifier COLLATE "default", payload FROM backfill.jobs WHERE job_key = 'k'$$, $$VALUES ('payroll', '["secret"]'::jsonb)$$, 'that job is as it was');

-- Granting again replaces the list.
SELECT backfill.grant_producer('regress_some', '{payroll}');
SET ROLE regress_some;
SELECT lives_ok($$SELECT backfill.enqueue('payroll')$$, 'a new list allows what is in it');
SELECT throws_ok($$SELECT backfill.enqueue('mail')$$, '42501', NULL, 'and no longer what was in the old one');
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
SELECT throws_ok($$SELECT backfill.enqueue('payroll')$$, '42501', NULL, 'and no more');
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
UPDATE backfill.producer SET tasks = '{other}' WHERE role_name = 'regress_some';
SET ROLE regress_some;
SELECT throws_ok($$SELECT backfill.enqueue('mail')$$, '42501', NULL, 'a changed list counts at once');
RESET ROLE;

-- SECURITY DEFINER functions of the user's own: the definer's rights count, as everywhere.
CREATE FUNCTION pg_temp.pay() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT backfill.enqueue('payroll') $$;
SET ROLE regress_some;
SELECT lives_ok($$SELECT pg_temp.pay()$$, 'a definer''s function enqueues what its owner may');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;

-- The type backfill.role: the same role under another name, another role under the same name, and one
-- that is not there, in text and binary form.
BEGIN;
SELECT no_plan();

CREATE ROLE regress_first;
CREATE TEMP TABLE kept (id integer, role backfill.role);
INSERT INTO kept VALUES (1, 'regress_first'), (2, 'regress_absent'), (3, 'regress_first (missing)'), (4, ''), (5, backfill._role_of('regress_first'));
SELECT results_eq('SELECT id, role::text FROM kept ORDER BY id',
                  $$VALUES (1, 'regress_first'), (2, 'regress_absent (missing)'), (3, 'regress_first (missing)'), (4, ' (missing)'), (5, 'regress_first')$$,
                  'a role is shown by its name, one that is not there as missing');
SELECT is((SELECT backfill._role_oid(role) FROM kept WHERE id = 1), 'regress_first'::regrole::oid, 'a role is kept as its oid');
SELECT is((SELECT backfill._role_oid(role) FROM kept WHERE id = 3), 0::oid, 'what is said to be missing is not looked up');
SELECT throws_ok($$SELECT backfill._role_of(0)$$, '42704', 'role with oid 0 does not exist', 'an oid must be that of a role');

ALTER ROLE regress_first RENAME TO regress_second;
CREATE ROLE regress_first;
SELECT is((SELECT role::text FROM kept WHERE id = 1), 'regress_second', 'a renamed role is shown by its new name');
SELECT is((SELECT role FROM kept WHERE id = 1)::text::backfill.role::text, 'regress_second', 'a renamed role reads in as itself');
CREATE ROLE regress_absent;
SELECT is((SELECT role::text FROM kept WHERE id = 2), 'regress_absent (missing)', 'a role that is made later is not the one that was missing');
DROP ROLE regress_second;
CREATE ROLE regress_second;
SELECT is((SELECT role::text FROM kept WHERE id = 1), 'regress_first (missing)', 'a dropped role is shown by the name it had when it was written down');
SELECT is((SELECT role::text::backfill.role::text FROM kept WHERE id = 1), 'regress_first (missing)', 'a missing role does not read in as the new role of that name');

-- Sorted, compared and grouped by what it is, not by what it is called.
SELECT is((SELECT count(DISTINCT role) FROM kept), 4::bigint, 'the same role twice is one');
SELECT is((SELECT role OPERATOR(backfill.=) backfill._role_of('regress_first') FROM kept WHERE id = 1), false, 'a dropped role is not the new one of its name');
SELECT is((SELECT count(*) FROM kept a JOIN kept b ON a.role OPERATOR(backfill.=) b.role), 7::bigint, 'columns of type role can be joined');
SELECT is((SELECT count(*) FROM kept a, kept b
            WHERE (a.role OPERATOR(backfill.<) b.role)::int + (a.role OPERATOR(backfill.=) b.role)::int + (a.role OPERATOR(backfill.>) b.role)::int <> 1
               OR (a.role OPERATOR(backfill.<=) b.role) <> NOT (a.role OPERATOR(backfill.>) b.role)
               OR (a.role OPERATOR(backfill.>=) b.role) <> NOT (a.role OPERATOR(backfill.<) b.role)
               OR (a.role OPERATOR(backfill.<>) b.role) <> NOT (a.role OPERATOR(backfill.=) b.role)
               OR backfill._role_cmp(a.role, b.role) <> -backfill._role_cmp(b.role, a.role)), 0::bigint, 'the operators agree');

-- Names that no role can have neither fail nor mean another role.
CREATE ROLE "regress_Quoted ""role"", with a comma";
SELECT is('regress_Quoted "role", with a comma'::backfill.role::text, 'regress_Quoted "role", with a comma', 'a name is taken as it is, without quotes');
SELECT is(backfill._role_oid('regress_QUOTED'::backfill.role), 0::oid, 'a name is not folded');
CREATE ROLE regress_a23456789012345678901234567890123456789012345678901234567890123;
SELECT is(length(repeat('é', 1000)::backfill.role::text), 31 + length(' (missing)'), 'a name that is too long is cut between two characters');
SELECT is(backfill._role_oid(rpad('regress_a234567890123456789012345678901234567890123456789012345678901', 64, 'x')::backfill.role), 0::oid, 'a name that is too long is no role');
SELECT is(backfill._role_oid((rolname || 'tail')::backfill.role), 0::oid, 'a name that is too long is not the role that has the name as it was cut') FROM pg_roles WHERE rolname ~ '^regress_a2';
SELECT is(backfill._role_oid(rolname::text::backfill.role), oid, 'a name of 63 bytes is a role') FROM pg_roles WHERE rolname ~ '^regress_a2';

-- The binary form is the text.
SELECT is(backfill._role_send(role), convert_to(role::text, 'UTF8'), 'sent: ' || role::text) FROM kept ORDER BY id;

SELECT * FROM finish();
ROLLBACK;

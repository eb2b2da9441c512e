-- backfill.role: a role as our tables keep it. It is its oid, so that a renamed role stays itself and
-- another one that gets its name does not; and in a dump its name, because another cluster has other
-- oids. regrole would do the first, but a role that is missing at a restore would cost the whole table.

CREATE TYPE backfill.role;

CREATE FUNCTION backfill._role_in(name cstring)
RETURNS backfill.role LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_in';
COMMENT ON FUNCTION backfill._role_in(cstring) IS 'Input of the type backfill.role.';
CREATE FUNCTION backfill._role_out(role backfill.role)
RETURNS cstring LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_out';
COMMENT ON FUNCTION backfill._role_out(backfill.role) IS 'Output of the type backfill.role.';
CREATE FUNCTION backfill._role_recv(message internal)
RETURNS backfill.role LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_recv';
COMMENT ON FUNCTION backfill._role_recv(internal) IS 'Binary input of the type backfill.role.';
CREATE FUNCTION backfill._role_send(role backfill.role)
RETURNS bytea LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_send';
COMMENT ON FUNCTION backfill._role_send(backfill.role) IS 'Binary output of the type backfill.role.';

CREATE TYPE backfill.role (
    INPUT = backfill._role_in,
    OUTPUT = backfill._role_out,
    RECEIVE = backfill._role_recv,
    SEND = backfill._role_send,
    INTERNALLENGTH = 68, -- an oid and a name
    ALIGNMENT = int4,
    CATEGORY = 'U'
);
COMMENT ON TYPE backfill.role IS
    'A role that stays the same when it is renamed. It is read and shown as its name; one that does not exist (any more) as "name (missing)", which no later role of that name becomes.';

CREATE FUNCTION backfill._role_of(role regrole)
RETURNS backfill.role LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_of';
COMMENT ON FUNCTION backfill._role_of(regrole) IS 'The role as the tables keep it.';
CREATE FUNCTION backfill._role_oid(role backfill.role)
RETURNS oid LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_oid';
COMMENT ON FUNCTION backfill._role_oid(backfill.role) IS
    'The oid of the role, which may have been dropped since; 0 if it was missing when the value was read in.';

CREATE FUNCTION backfill._role_cmp(a backfill.role, b backfill.role)
RETURNS integer LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_cmp';
COMMENT ON FUNCTION backfill._role_cmp(backfill.role, backfill.role) IS 'Order of the type backfill.role: by oid, missing ones by name.';
CREATE FUNCTION backfill._role_eq(a backfill.role, b backfill.role)
RETURNS boolean LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_eq';
COMMENT ON FUNCTION backfill._role_eq(backfill.role, backfill.role) IS 'Operator = of the type backfill.role.';
CREATE FUNCTION backfill._role_ne(a backfill.role, b backfill.role)
RETURNS boolean LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_ne';
COMMENT ON FUNCTION backfill._role_ne(backfill.role, backfill.role) IS 'Operator <> of the type backfill.role.';
CREATE FUNCTION backfill._role_lt(a backfill.role, b backfill.role)
RETURNS boolean LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_lt';
COMMENT ON FUNCTION backfill._role_lt(backfill.role, backfill.role) IS 'Operator < of the type backfill.role.';
CREATE FUNCTION backfill._role_le(a backfill.role, b backfill.role)
RETURNS boolean LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_le';
COMMENT ON FUNCTION backfill._role_le(backfill.role, backfill.role) IS 'Operator <= of the type backfill.role.';
CREATE FUNCTION backfill._role_ge(a backfill.role, b backfill.role)
RETURNS boolean LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_ge';
COMMENT ON FUNCTION backfill._role_ge(backfill.role, backfill.role) IS 'Operator >= of the type backfill.role.';
CREATE FUNCTION backfill._role_gt(a backfill.role, b backfill.role)
RETURNS boolean LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_gt';
COMMENT ON FUNCTION backfill._role_gt(backfill.role, backfill.role) IS 'Operator > of the type backfill.role.';

CREATE OPERATOR backfill.= (LEFTARG = backfill.role, RIGHTARG = backfill.role, FUNCTION = backfill._role_eq,
    COMMUTATOR = OPERATOR(backfill.=), NEGATOR = OPERATOR(backfill.<>), RESTRICT = eqsel, JOIN = eqjoinsel, MERGES);
CREATE OPERATOR backfill.<> (LEFTARG = backfill.role, RIGHTARG = backfill.role, FUNCTION = backfill._role_ne,
    COMMUTATOR = OPERATOR(backfill.<>), NEGATOR = OPERATOR(backfill.=), RESTRICT = neqsel, JOIN = neqjoinsel);
CREATE OPERATOR backfill.< (LEFTARG = backfill.role, RIGHTARG = backfill.role, FUNCTION = backfill._role_lt,
    COMMUTATOR = OPERATOR(backfill.>), NEGATOR = OPERATOR(backfill.>=), RESTRICT = scalarltsel, JOIN = scalarltjoinsel);
CREATE OPERATOR backfill.<= (LEFTARG = backfill.role, RIGHTARG = backfill.role, FUNCTION = backfill._role_le,
    COMMUTATOR = OPERATOR(backfill.>=), NEGATOR = OPERATOR(backfill.>), RESTRICT = scalarlesel, JOIN = scalarlejoinsel);
CREATE OPERATOR backfill.>= (LEFTARG = backfill.role, RIGHTARG = backfill.role, FUNCTION = backfill._role_ge,
    COMMUTATOR = OPERATOR(backfill.<=), NEGATOR = OPERATOR(backfill.<), RESTRICT = scalargesel, JOIN = scalargejoinsel);
CREATE OPERATOR backfill.> (LEFTARG = backfill.role, RIGHTARG = backfill.role, FUNCTION = backfill._role_gt,
    COMMUTATOR = OPERATOR(backfill.<), NEGATOR = OPERATOR(backfill.<=), RESTRICT = scalargtsel, JOIN = scalargtjoinsel);
CREATE OPERATOR CLASS backfill.role_ops DEFAULT FOR TYPE backfill.role USING btree AS
    OPERATOR 1 backfill.<, OPERATOR 2 backfill.<=, OPERATOR 3 backfill.=, OPERATOR 4 backfill.>=, OPERATOR 5 backfill.>,
    FUNCTION 1 backfill._role_cmp(backfill.role, backfill.role);

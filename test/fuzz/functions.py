"""Calls every function and procedure of the extension with hostile arguments, as seven roles at
once, in hostile contexts, beside working executors and sessions that are terminated at random.

What must hold: no internal error (XX…), no crash, no statement that cannot be cancelled; a role
without rights is refused; what only some roles may read is sent to no other; afterwards storage,
views and an ordinary job are in order.
"""

import random
import re
import threading
import time

import fuzz

# In every payload of the task "secret", and in its errors.
MARKER = b"sesame-4111-1111"

# Roles, and whether they may see payloads. The owner of the extension comes first.
ROLES = {"postgres": True, "fuzz_admin": True, "fuzz_consumer": True, "fuzz_monitor": False, "fuzz_producer": False,
         "fuzz_tenant": False, "fuzz_nobody": False}

# Errors of PostgreSQL's own, which concurrent GRANTs and the like raise in any database.
FOREIGN_XX000 = ("tuple concurrently updated", "tuple concurrently deleted", "could not open relation with OID",
                 "cache lookup failed for role")

SET_UP = """
    CREATE EXTENSION backfill;
    CREATE ROLE fuzz_admin LOGIN; CREATE ROLE fuzz_consumer LOGIN; CREATE ROLE fuzz_monitor LOGIN;
    CREATE ROLE fuzz_producer LOGIN; CREATE ROLE fuzz_tenant LOGIN; CREATE ROLE fuzz_nobody LOGIN; CREATE ROLE fuzz_spare;
    SELECT backfill.grant_admin('fuzz_admin'), backfill.grant_consumer('fuzz_consumer'), backfill.grant_monitor('fuzz_monitor'),
           backfill.grant_producer('fuzz_producer'), backfill.grant_producer('fuzz_tenant', '{t_plain,t_external,t_fail}');
    CREATE SCHEMA fuzz;
    GRANT USAGE ON SCHEMA fuzz TO PUBLIC;
    CREATE FUNCTION fuzz.plain(payload jsonb) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
    CREATE FUNCTION fuzz.fail(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'failed: %', payload; END $$;
    CREATE PROCEDURE fuzz.proc(payload jsonb) LANGUAGE plpgsql AS 'BEGIN COMMIT; END';
    CREATE FUNCTION fuzz.hook(payload jsonb) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
    CREATE FUNCTION fuzz.wrong(n int) RETURNS int LANGUAGE sql AS 'SELECT 1';
    SELECT backfill.set_retry_policy('p_fuzz', 3, '1 ms', '2 ms');
    SELECT backfill.register_task('t_plain', 'fuzz.plain(jsonb)', keep_history => '1 hour'),
           backfill.register_task('t_fail', 'fuzz.fail(jsonb)', retry_policy => 'p_fuzz', keep_history => '1 hour'),
           backfill.register_task('t_proc', 'fuzz.proc(jsonb)'), backfill.register_task('t_external'),
           backfill.register_task('secret', 'fuzz.plain(jsonb)'), backfill.register_task('secret external'),
           backfill.register_task('secret fail', 'fuzz.fail(jsonb)', retry_policy => 'p_fuzz', keep_history => '1 hour');
    SELECT backfill.set_queue('q_limited', 2), backfill.set_queue('q_rate', 1, 5, '1 s'), backfill.set_queue('q_depth', max_depth => 20);
    CREATE TABLE fuzz.big AS SELECT g AS n, repeat('x', 40) AS pad FROM generate_series(1, 3000) g;
    GRANT SELECT ON fuzz.big TO PUBLIC;
    ANALYZE fuzz.big;
    GRANT CREATE ON DATABASE postgres TO PUBLIC
"""

NAMES = {
    "task": ["t_plain", "t_fail", "t_proc", "t_external", "secret", "secret external", "secret fail", "t_unknown"],
    "queue": ["fast", "bulk", "q_limited", "q_rate", "q_depth", "q_serial", "dead_letter"],
    "key": ["k1", "k2", "k3", "invoice 1", "order-1"],
    "role": ["fuzz_spare", "fuzz_nobody"],
    "function": ["fuzz.plain(jsonb)", "fuzz.fail(jsonb)", "fuzz.proc(jsonb)", "fuzz.hook(jsonb)", "fuzz.wrong(int)"],
}

SETTINGS = ["default_transaction_isolation = serializable", "default_transaction_isolation = 'repeatable read'",
            "default_transaction_read_only = on", "default_transaction_deferrable = on", "statement_timeout = '30ms'",
            "lock_timeout = '5ms'", "idle_in_transaction_session_timeout = '1s'", "quote_all_identifiers = on",
            "search_path = ''", "search_path = pg_temp, fuzz, backfill", "client_encoding = LATIN1", "client_encoding = SQL_ASCII",
            "client_encoding = EUC_JP", "standard_conforming_strings = off", "DateStyle = 'German'", "IntervalStyle = sql_standard",
            "bytea_output = escape", "extra_float_digits = -15", "TimeZone = 'Asia/Kathmandu'", "work_mem = '64kB'", "jit = on",
            "check_function_bodies = off", "enable_indexscan = off", "enable_seqscan = off", "plan_cache_mode = force_generic_plan",
            "row_security = off", "synchronous_commit = off", "temp_buffers = 100", "xmloption = document"]
OWNER_SETTINGS = ["session_replication_role = replica", "backfill.hint_faults = 0.3", "backfill.fake_now = '2030-01-01'",
                  "zero_damaged_pages = off", "log_min_messages = panic"]


AFTERWARDS = ["DISCARD ALL", "SET statement_timeout = '10s'", "SET lock_timeout = '5s'"]


class Calls:
    """Makes statements for one role."""

    def __init__(self, rng, role, types, functions, parallel_setting):
        self.rng = rng
        self.role = role
        self.functions = functions
        self.allowed = [function for function in functions if role in function[4]]
        self.values = fuzz.Values(rng, types)
        self.values.names = dict(NAMES)
        if role in ("postgres", "fuzz_admin"):
            self.values.names["role"] = ["fuzz_spare"]  # the others keep the rights that they have
        self.parallel_setting = parallel_setting

    def call(self):
        rng = self.rng
        # What the role may not call is refused alike, whatever the arguments.
        may_call = self.allowed and rng.random() < 0.9
        name, kind, arguments, required, _ = rng.choice(self.allowed if may_call else self.functions)
        given = []
        # Call by position up to some argument, then by name.
        by_position = rng.randrange(len(arguments) + 1)
        for position, (argument, oid) in enumerate(arguments):
            if position >= required and rng.random() < 0.5:
                by_position = min(by_position, position)
                continue
            value = self.values.of(oid)
            given.append(value if position < by_position or not argument else f'"{argument}" => {value}')
        if rng.random() < 0.01 and given:
            given.pop()
        return kind, f"backfill.{name}({', '.join(given)})"

    def statements(self):
        """What to send, one after the other: a call in some context."""
        rng = self.rng
        kind, call = self.call()
        if kind == "p":
            return rng.choice([[f"CALL {call}"], ["BEGIN", f"CALL {call}", "COMMIT"], [f"DO $fuzz$ BEGIN CALL {call}; END $fuzz$"]])
        select = rng.choice([f"SELECT {call}", f"SELECT * FROM {call}"])
        catching = f"BEGIN PERFORM {call}; RAISE division_by_zero; EXCEPTION WHEN OTHERS THEN NULL; END;"
        gid = f"fuzz {self.role} {rng.randrange(10**9)}"
        isolation = rng.choice(["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "READ COMMITTED READ ONLY",
                                "SERIALIZABLE READ ONLY DEFERRABLE"])
        other_kind, other = self.call()
        contexts = [
            [f"BEGIN ISOLATION LEVEL {isolation}", select, "COMMIT"],
            ["BEGIN", select, "ROLLBACK"],
            ["BEGIN", "SAVEPOINT a", select, "ROLLBACK TO a", select, "ROLLBACK TO a", "COMMIT"],
            [f"DO $fuzz$ BEGIN {catching} {catching} END $fuzz$"],
            [f"SET {self.parallel_setting} = on",
             f"SELECT count(*), (SELECT count(*) FROM {call}) FROM fuzz.big WHERE pad LIKE '%x'"],
            ["BEGIN", select, f"PREPARE TRANSACTION '{gid}'", f"{rng.choice(['COMMIT', 'ROLLBACK'])} PREPARED '{gid}'"],
            ["BEGIN", f"DECLARE c CURSOR WITH HOLD FOR {select}", "FETCH 1 FROM c", "COMMIT", "FETCH ALL FROM c"],
            [f"PREPARE s AS {select}"] + ["EXECUTE s"] * 7,
            [f"{select}; " + (f"CALL {other}" if other_kind == "p" else f"SELECT {other}")],
        ]
        return rng.choice(contexts) if rng.random() < 0.7 else [select]


def functions_of(owner):
    found = []
    for name, kind, names, types, required, roles in owner.query("""
            SELECT p.proname, p.prokind, array_to_string(p.proargnames, ','),
                   array_to_string(coalesce((SELECT array_agg(t.t ORDER BY t.n) FROM unnest(p.proallargtypes, p.proargmodes) WITH ORDINALITY t (t, m, n)
                                              WHERE t.m IN ('i', 'b', 'v')), p.proargtypes::oid[]), ','),
                   p.pronargs - p.pronargdefaults,
                   (SELECT string_agg(r.rolname, ',') FROM pg_roles r
                     WHERE has_schema_privilege(r.oid, 'backfill', 'USAGE') AND has_function_privilege(r.oid, p.oid, 'EXECUTE'))
              FROM pg_proc p
             WHERE p.pronamespace = 'backfill'::regnamespace AND p.prokind IN ('f', 'p')
               AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
               AND NOT 'internal'::regtype = ANY (p.proargtypes::oid[])
             ORDER BY p.oid::regprocedure::text COLLATE "C" """).rows():
        oids = [int(t) for t in types.decode().split(",")] if types else []
        argument_names = (names or b"").decode().split(",")[:len(oids)]
        argument_names += [""] * (len(oids) - len(argument_names))
        found.append((name.decode(), kind.decode(), list(zip(argument_names, oids)), int(required),
                      roles.decode().split(",")))
    return found


class Caller(threading.Thread):
    """One role's session, which calls until the time is over."""

    def __init__(self, report, role, calls, until):
        super().__init__(name=role)
        self.report = report
        self.role = role
        self.calls = calls
        self.until = until
        self.statements = 0
        self.succeeded = 0
        self.codes = {}
        self.ids = []

    def run(self):
        session = fuzz.Session(self.role, "-c statement_timeout=10s -c lock_timeout=5s")
        rng = self.calls.rng
        try:
            while time.monotonic() < self.until and not self.report.stopped.is_set():
                if self.role == "fuzz_nobody":
                    time.sleep(0.02)  # it is refused at once, and would take the others' time
                self.calls.values.ids = self.ids
                settings = []
                if rng.random() < 0.3:
                    pool = SETTINGS + (OWNER_SETTINGS if self.role == "postgres" else [])
                    settings = rng.sample(pool, rng.choice([1, 1, 2]))
                self.step(session, settings, self.calls.statements())
        except fuzz.Hang as hang:
            self.report.problem(f"{self.role}: {hang}")
        except Exception as error:  # pylint: disable=broad-except
            self.report.problem(f"{self.role}: the driver: {error!r}")

    def step(self, session, settings, statements):
        text = "; ".join([f"SET {setting}" for setting in settings] + statements)
        try:
            for setting in settings:
                session.run(f"SET {setting}")
            for statement in statements:
                self.judge(text, session.run(statement), statement)
            for notice in session.notices:
                self.look_for_marker(text, notice)
            session.notices.clear()
            if session.in_transaction():
                session.run("ROLLBACK")
            for statement in AFTERWARDS:
                session.run(statement)
        except fuzz.Lost:
            pass  # a terminated session; the log says if it was more

    def judge(self, text, result, statement):
        self.statements += 1
        self.succeeded += 0 if result.failed else 1
        code = result.sqlstate or "00000"
        self.codes[code] = self.codes.get(code, 0) + 1
        if code.startswith("XX") and not any(known in result.message for known in FOREIGN_XX000):
            self.report.problem(f"{code} {result.message}", f"{self.role}: {text[:3000]}")
        if self.role == "fuzz_nobody" and not result.failed and statement.startswith(("SELECT", "CALL")):
            self.report.problem("fuzz_nobody was not refused", text[:3000])
        self.look_for_marker(text, result)

    def look_for_marker(self, text, result):
        if not ROLES[self.role] and any(MARKER in sent for sent in result.texts()):
            self.report.problem(f"{self.role} was sent what it may not see", text[:3000])


class Upkeep(threading.Thread):
    """Keeps something there to be hit, and not too much of it; terminates sessions at random."""

    def __init__(self, report, rng, callers, until):
        super().__init__(name="upkeep")
        self.report = report
        self.rng = rng
        self.callers = callers
        self.until = until

    def run(self):
        owner = fuzz.Session("postgres")
        try:
            while time.monotonic() < self.until and not self.report.stopped.is_set():
                try:
                    self.round(owner)
                except fuzz.Lost:
                    pass
                time.sleep(0.3)
        except (fuzz.Hang, RuntimeError) as error:
            self.report.problem(f"upkeep: {error}")

    def round(self, owner):
        rng = self.rng
        secret = f'{{"card": "{MARKER.decode()}", "n": {rng.randrange(1000)}}}'
        statements = [
            f"SELECT backfill.enqueue('secret', '{secret}', run_at => now() + '1 hour', job_key => '{rng.choice(NAMES['key'])}')",
            f"SELECT backfill.enqueue('secret', '[{secret}]', run_at => now() + '1 hour', job_key => '{rng.choice(NAMES['key'])}')",
            f"SELECT backfill.enqueue('secret external', '{secret}', job_key => '{rng.choice(NAMES['key'])}')",
            f"SELECT backfill.enqueue('secret fail', '{secret}')",
            "SELECT backfill.enqueue('t_external')", "SELECT backfill.enqueue('t_fail')",
            "SELECT backfill.claim_jobs('worker', tasks => '{secret external}', max_jobs => 3, lease => '2 s')",
        ]
        for statement in rng.sample(statements, 3):
            owner.run(statement)
        # What admins have set in the meantime must not end the test.
        owner.run("SELECT backfill.register_task('secret', 'fuzz.plain(jsonb)'), backfill.register_task('secret external'),"
                  " backfill.register_task('secret fail', 'fuzz.fail(jsonb)', retry_policy => 'p_fuzz', keep_history => '1 hour')")
        owner.run("DELETE FROM backfill.hook; DELETE FROM backfill.error_rule WHERE id >= 1000")
        owner.run("DELETE FROM backfill.job WHERE id IN (SELECT id FROM backfill.job ORDER BY id DESC OFFSET 3000)")
        owner.run("DELETE FROM backfill.dead_letter WHERE id IN (SELECT id FROM backfill.dead_letter ORDER BY id DESC OFFSET 500)")
        owner.run("SELECT backfill.unschedule(name) FROM backfill.cron_schedule")
        owner.run("DELETE FROM backfill.producer p WHERE p::text LIKE '(fuzz_spare%'")
        ids = owner.run("""SELECT id FROM backfill.job UNION ALL SELECT id FROM backfill.dead_letter
                           UNION ALL SELECT claim_token FROM backfill.job WHERE claim_token IS NOT NULL ORDER BY 1 DESC LIMIT 300""")
        if not ids.failed:
            known = [int(row[0]) for row in ids.rows()]
            for caller in self.callers:
                caller.ids = known
        if rng.random() < 0.15:
            owner.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE (backend_type LIKE 'backfill %' OR application_name LIKE 'fuzz fuzz%')"
                      " AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1")
        if rng.random() < 0.15:
            owner.run("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'backfill %' ORDER BY random() LIMIT 1")


def main():
    options = fuzz.arguments(__doc__)
    report = fuzz.Report()
    owner = fuzz.Session("postgres")
    owner.query(SET_UP)
    version = int(owner.query("SHOW server_version_num").value())
    parallel = "debug_parallel_query" if version >= 160000 else "force_parallel_mode"
    types = fuzz.load_types(owner)
    functions = functions_of(owner)
    until = time.monotonic() + options.seconds
    callers = [Caller(report, role, Calls(random.Random(f"{options.seed} {role}"), role, types, functions, parallel), until)
               for role in ROLES]
    threads = callers + [Upkeep(report, random.Random(f"{options.seed} upkeep"), callers, until)]
    for thread in threads:
        thread.daemon = True
        thread.start()
    for thread in threads:
        thread.join(options.seconds + 4 * fuzz.HANG_SECONDS)
        if thread.is_alive():
            report.problem(f"{thread.name} does not come to its end")

    for caller in callers:
        most = sorted(caller.codes.items(), key=lambda item: -item[1])[:8]
        print(f"# {caller.role}: {caller.statements} statements, {caller.succeeded} succeeded; "
              + ", ".join(f"{code} {count}" for code, count in most))
    report.test(not report.problems, f"{len(functions)} functions bear hostile calls", "\n\n".join(report.problems))
    report.test(all(caller.statements > 0 for caller in callers), "every role has called")
    report.test(all(caller.succeeded > 0 for caller in callers if caller.role != "fuzz_nobody"), "some calls of every role with rights succeeded")
    fuzz.check_readable(report, owner)
    fuzz.check_ordinary_job(report, owner)
    fuzz.check_storage(report, owner)
    fuzz.check_log(report, options.log, [re.compile("|".join(FOREIGN_XX000))])
    report.end()


main()

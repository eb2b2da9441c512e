"""Runs hostile statements inside handlers and procedures of ordinary roles, beside innocent jobs of
the same roles and executors, while jobs are cancelled, workers terminated and servers crashed.

What must hold: every innocent job that was committed has its effect exactly once, and finds its
session as a fresh one is; no hostile job reaches what its role may not; nothing is left running
or leased for ever; no internal error and no crash but those that the driver makes; afterwards
storage, views and an ordinary job are in order.
"""

import os
import random
import re
import signal
import threading
import time

import fuzz

# Seconds between two kills of an executor by SIGKILL, which restarts the server.
KILL_SECONDS = 30
DRAIN_SECONDS = int(os.environ.get("FUZZ_DRAIN", "180"))

SET_UP = """
    CREATE EXTENSION backfill;
    CREATE ROLE fuzz_job LOGIN; CREATE ROLE fuzz_other LOGIN; CREATE ROLE fuzz_group; GRANT fuzz_group TO fuzz_job;
    SELECT backfill.grant_producer('fuzz_job'), backfill.grant_consumer('fuzz_job'), backfill.grant_producer('fuzz_other', '{innocent other}');
    CREATE SCHEMA fuzz; GRANT USAGE ON SCHEMA fuzz TO PUBLIC;
    CREATE SCHEMA toy AUTHORIZATION fuzz_job; GRANT ALL ON SCHEMA toy TO PUBLIC;
    CREATE TABLE fuzz.ledger (n bigint, pid int DEFAULT pg_backend_pid());
    CREATE TABLE fuzz.leak (n bigint, what text, pid int DEFAULT pg_backend_pid());
    CREATE TABLE fuzz.crown (jewel text); INSERT INTO fuzz.crown VALUES ('sesame');
    CREATE TABLE toy.parent (id int PRIMARY KEY);
    CREATE TABLE toy.child (id int REFERENCES toy.parent DEFERRABLE INITIALLY DEFERRED, n int);
    GRANT ALL ON toy.parent, toy.child TO PUBLIC;
    -- Appends below the roles' rights, so that no hostile statement can write there by itself.
    CREATE FUNCTION fuzz.tell(n bigint, leaks text[]) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
        $$ INSERT INTO fuzz.ledger VALUES (n); INSERT INTO fuzz.leak SELECT n, l FROM unnest(leaks) l $$;
    CREATE FUNCTION fuzz.innocent(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        found text[] := '{}';
    BEGIN
        found := array_remove(ARRAY[
            CASE WHEN current_user <> payload->>'role' OR session_user <> payload->>'role' THEN 'user ' || current_user || '/' || session_user END,
            CASE WHEN current_setting('search_path') <> '"$user", public' THEN 'search_path ' || current_setting('search_path') END,
            CASE WHEN current_setting('fuzz.mark', true) <> '' THEN 'fuzz.mark' END,
            CASE WHEN current_setting('work_mem') <> '4MB' THEN 'work_mem' END,
            CASE WHEN current_setting('statement_timeout') <> '0' THEN 'statement_timeout ' || current_setting('statement_timeout') END,
            CASE WHEN current_setting('lock_timeout') <> '0' THEN 'lock_timeout ' || current_setting('lock_timeout') END,
            CASE WHEN current_setting('transaction_read_only') <> 'off' THEN 'read only' END,
            CASE WHEN current_setting('transaction_isolation') <> 'read committed' THEN 'isolation' END,
            CASE WHEN current_setting('TimeZone') <> 'Etc/UTC' AND current_setting('TimeZone') <> 'UTC' THEN 'TimeZone ' || current_setting('TimeZone') END,
            CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_my_temp_schema()) THEN 'temporary objects' END,
            CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_prepared_statements) THEN 'prepared statements' END,
            CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable) THEN 'cursors' END,
            CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND objsubid IN (1, 2) AND objid <> 7) THEN 'advisory locks' END,
            CASE WHEN EXISTS (SELECT FROM pg_listening_channels()) THEN 'listens' END], NULL);
        PERFORM fuzz.tell((payload->>'n')::bigint, found);
    END $$;
    -- Statements of the payload, one by one; "catch" goes on after errors.
    CREATE FUNCTION fuzz.attack(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        statement text;
    BEGIN
        FOR statement IN SELECT jsonb_array_elements_text(payload->'run') LOOP
            IF (payload->>'catch')::boolean THEN
                BEGIN
                    EXECUTE statement;
                EXCEPTION WHEN OTHERS THEN NULL;
                END;
            ELSE
                EXECUTE statement;
            END IF;
        END LOOP;
    END $$;
    CREATE PROCEDURE fuzz.attack_and_commit(payload jsonb) LANGUAGE plpgsql AS $$
    DECLARE
        statements text[] := ARRAY(SELECT jsonb_array_elements_text(payload->'run'));
        statement text;
    BEGIN
        FOREACH statement IN ARRAY statements LOOP
            IF statement = 'COMMIT' THEN COMMIT;
            ELSIF statement = 'ROLLBACK' THEN ROLLBACK;
            ELSIF statement = 'COMMIT AND CHAIN' THEN COMMIT AND CHAIN;
            ELSE EXECUTE statement; END IF;
        END LOOP;
    END $$;
    SELECT backfill.set_retry_policy('fuzz often', 1000, '1 ms', '50 ms'), backfill.set_retry_policy('fuzz twice', 2, '1 ms', '2 ms');
    SELECT backfill.register_task('innocent', 'fuzz.innocent(jsonb)', run_as => 'fuzz_job', retry_policy => 'fuzz often', keep_history => '1 hour'),
           backfill.register_task('innocent other', 'fuzz.innocent(jsonb)', run_as => 'fuzz_other', retry_policy => 'fuzz often', keep_history => '1 hour'),
           backfill.register_task('attack', 'fuzz.attack(jsonb)', run_as => 'fuzz_job', retry_policy => 'fuzz twice', timeout => '300 ms'),
           backfill.register_task('attack other', 'fuzz.attack(jsonb)', run_as => 'fuzz_other', retry_policy => 'fuzz twice', timeout => '300 ms'),
           backfill.register_task('attack proc', 'fuzz.attack_and_commit(jsonb)', run_as => 'fuzz_job', retry_policy => 'fuzz twice', timeout => '300 ms');
    SELECT backfill.set_queue('limited', 1), backfill.set_queue('rated', 2, 200, '1 s')
"""

STATEMENTS = [
    # (pg_advisory_xact_lock(7) stays until the batch commits: innocent jobs do not mind it)
    "SET work_mem = '64kB'", "SET LOCAL work_mem = '64kB'", "SET search_path = pg_temp, toy", "SET fuzz.mark = 'here'",
    "SELECT set_config('fuzz.mark', 'there', false)", "SET statement_timeout = '1ms'", "SET lock_timeout = '1ms'", "SET TimeZone = 'Asia/Kathmandu'",
    "SET transaction_read_only = on", "SET default_transaction_read_only = on", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET default_transaction_isolation = serializable", "RESET ALL", "SET ROLE fuzz_group", "SET LOCAL ROLE fuzz_group", "SET ROLE postgres",
    "RESET ROLE", "SET SESSION AUTHORIZATION postgres", "SET SESSION AUTHORIZATION fuzz_job", "RESET SESSION AUTHORIZATION",
    "SET session_replication_role = replica", "SET client_encoding = LATIN1", "SET standard_conforming_strings = off",
    "SET plan_cache_mode = force_generic_plan", "SET synchronous_commit = off", "SET backfill.fake_now = '2030-01-01'", "SET backfill.batch_time = 0",
    "SET idle_in_transaction_session_timeout = '1ms'", "SET client_min_messages = debug5", "SET temp_buffers = 200", "SET application_name = 'x'",
    # what stays in a session
    "CREATE TEMP TABLE t (a int) ON COMMIT DROP", "CREATE TEMP TABLE t2 (a int) ON COMMIT DELETE ROWS", "CREATE TEMP TABLE t3 AS SELECT 1",
    "CREATE TEMP SEQUENCE s", "CREATE TEMP VIEW v AS SELECT 1", "PREPARE p AS SELECT 1", "DEALLOCATE ALL", "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "DECLARE c2 CURSOR FOR SELECT 1", "CLOSE ALL", "LISTEN ears", "NOTIFY ears", "UNLISTEN *", "DISCARD ALL", "DISCARD TEMP", "DISCARD PLANS", "LOAD 'plpgsql'",
    "SELECT pg_advisory_lock(1, 2)", "SELECT pg_try_advisory_lock(42)", "SELECT pg_advisory_unlock_all()", "SELECT pg_advisory_xact_lock(7)",
    "SELECT setseed(0.5)", "SELECT lo_create(0)", "SELECT pg_export_snapshot()",
    # transactions
    "BEGIN", "COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "SAVEPOINT a", "PREPARE TRANSACTION 'fuzz'", "DO 'BEGIN COMMIT; END'", "DO 'BEGIN ROLLBACK; END'",
    "DO 'BEGIN FOR i IN 1..200 LOOP BEGIN INSERT INTO toy.parent VALUES (i); EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END'",
    "SET CONSTRAINTS ALL IMMEDIATE", "SET CONSTRAINTS ALL DEFERRED", "INSERT INTO toy.child VALUES (-1)", "INSERT INTO toy.child SELECT id FROM toy.parent LIMIT 1",
    "INSERT INTO toy.parent VALUES ((random() * 1000)::int) ON CONFLICT DO NOTHING", "DELETE FROM toy.child", "LOCK TABLE toy.parent", "TRUNCATE toy.child",
    # errors
    "SELECT 1/0", "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END $$", "DO $$ BEGIN RAISE EXCEPTION 'never' USING ERRCODE = 'JB002'; END $$",
    "DO $$ BEGIN RAISE EXCEPTION '%', repeat('x', 100000); END $$", "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '57014'; END $$",
    "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '57P01'; END $$", "SELECT * FROM nowhere", "syntax error", "", ";", "SELECT 1; SELECT 2",
    "DO $$ BEGIN RAISE WARNING 'loud'; END $$", "DO $$ BEGIN ASSERT false; END $$",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT sum(n) FROM r", "SELECT count(*) FROM generate_series(1, 300000)",
    "SELECT repeat('x', 50000000) || 'y'", "SELECT repeat('[', 100000)::jsonb", "DO 'BEGIN LOOP END LOOP; END'",
    # its own process, and others'
    "SELECT pg_terminate_backend(pg_backend_pid())", "SELECT pg_cancel_backend(pg_backend_pid())",
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = current_user", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'backfill dispatcher'",
    # objects
    "CREATE TABLE toy.mine (a int)", "DROP TABLE IF EXISTS toy.mine", "ALTER TABLE toy.mine ADD COLUMN b int", "CREATE INDEX ON toy.parent (id)",
    "CREATE FUNCTION toy.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "DROP FUNCTION IF EXISTS toy.f()", "DROP FUNCTION fuzz.attack(jsonb)",
    "CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz'", "CREATE ROLE r SUPERUSER", "ALTER ROLE fuzz_job SUPERUSER",
    "DROP EXTENSION backfill", "DROP SCHEMA backfill CASCADE", "VACUUM", "ANALYZE toy.parent", "REINDEX TABLE toy.parent", "COPY toy.parent TO PROGRAM 'cat'",
    "COPY (SELECT 1) TO '/nowhere/file'", "CREATE DATABASE other", "ALTER SYSTEM SET work_mem = '1MB'", "GRANT ALL ON fuzz.crown TO fuzz_job",
    # what is not the role's
    "SELECT jewel FROM fuzz.crown", "UPDATE fuzz.crown SET jewel = 'mine'", "DELETE FROM backfill.job", "UPDATE backfill.task SET run_as = 'postgres'",
    "INSERT INTO fuzz.ledger VALUES (-1)", "DELETE FROM fuzz.leak", "SELECT backfill.register_task('attack', 'fuzz.attack(jsonb)', run_as => 'postgres')",
    "SELECT backfill.cancel_job(1)", "SELECT backfill._bury(1, 'x', NULL)", "LOCK TABLE backfill.job", "TRUNCATE backfill.job",
    # the queue, from inside
    "SELECT backfill.enqueue('innocent other', '{\"n\": -7, \"role\": \"fuzz_other\"}')", "SELECT backfill.snooze('10 years')", # sooner, it would repeat what it enqueues for ever
    "SELECT backfill.discard('enough')", "SELECT backfill.set_result('{\"a\": 1}')", "SELECT backfill.set_result(to_jsonb(repeat('x', 1000000)))",
    "SELECT backfill.set_progress(0.5, 'half')", "SELECT backfill.set_progress('NaN', repeat('é', 1000))", "SELECT backfill.current_job()",
    "SELECT backfill.claim_jobs('me', tasks => '{nothing}')", "CALL backfill.process_available_jobs(3)", "CALL backfill.wait_for_jobs('10 ms')",
    "CALL backfill.await_job(1, '10 ms')", "DO $$ BEGIN PERFORM backfill.discard('no'); RAISE EXCEPTION 'x'; EXCEPTION WHEN OTHERS THEN NULL; END $$",
    "DO $$ BEGIN PERFORM backfill.snooze('1 ms'); RAISE EXCEPTION 'x'; EXCEPTION WHEN OTHERS THEN NULL; END $$",
    "SELECT backfill.enqueue('attack', '{\"run\": []}', job_key => 'loop')", "SELECT backfill.enqueue('attack other', '{\"run\": [\"SELECT 1\"]}')",
    "SELECT backfill.enqueue_many('attack', array_fill('{\"run\": []}'::jsonb, ARRAY[50]))", "SELECT backfill.complete_jobs('{1}', 1)",
]


class Producer(threading.Thread):
    """Enqueues hostile and innocent jobs, some in transactions that roll back."""

    def __init__(self, report, rng, number, until):
        super().__init__(name=f"producer {number}")
        self.report = report
        self.rng = rng
        self.first = number * 10**9
        self.until = until
        self.committed = set()
        self.uncertain = set()  # their commit was cut off
        self.attacks = 0

    def run(self):
        session = fuzz.Session("postgres")
        n = self.first
        try:
            while time.monotonic() < self.until and not self.report.stopped.is_set():
                numbers, statements = set(), []
                for _ in range(self.rng.choice([1, 3, 10])):
                    if self.rng.random() < 0.5:
                        n += 1
                        numbers.add(n)
                        statements.append(self.innocent(n))
                    else:
                        self.attacks += 1
                        statements.append(self.attack())
                commit = self.rng.random() < 0.9
                self.transaction(session, statements, numbers if commit else set(), commit)
                # More than the executors bear would only wait.
                while (time.monotonic() < self.until and not self.report.stopped.is_set() and self.backlog(session) > 500):
                    time.sleep(0.1)
        except Exception as error:  # pylint: disable=broad-except
            self.report.problem(f"{self.name}: {error!r}")

    def transaction(self, session, statements, numbers, commit):
        try:
            session.succeed("BEGIN; " + "; ".join(statements))
            self.uncertain |= numbers
            session.succeed("COMMIT" if commit else "ROLLBACK")
            self.uncertain -= numbers
            self.committed |= numbers
        except (fuzz.Lost, fuzz.Hang):
            pass
        except RuntimeError as error:
            if "57P0" not in str(error) and "25P01" not in str(error):
                raise
            self.uncertain -= numbers

    @staticmethod
    def backlog(session):
        try:
            return int(session.query("SELECT count(*) FROM (SELECT FROM backfill.job WHERE run_at < now() LIMIT 1000) j").value())
        except (fuzz.Lost, RuntimeError):
            return 0

    def innocent(self, n):
        task, role = self.rng.choice([("innocent", "fuzz_job"), ("innocent", "fuzz_job"), ("innocent other", "fuzz_other")])
        queue = self.rng.choice(["fast", "bulk", "limited", "rated", "own"])
        key = f", job_key => 'key {n}'" if self.rng.random() < 0.2 else ""
        return (f"SELECT backfill.enqueue('{task}', '{{\"n\": {n}, \"role\": \"{role}\"}}', queue_name => '{queue}',"
                f" priority => {self.rng.randrange(-20, 10)}{key})")

    def attack(self):
        rng = self.rng
        task = rng.choice(["attack", "attack", "attack other", "attack proc"])
        import json
        payload = json.dumps({"run": [rng.choice(STATEMENTS) for _ in range(rng.choice([1, 1, 2, 3, 5]))], "catch": rng.random() < 0.4})
        return (f"SELECT backfill.enqueue('{task}', {fuzz.literal(payload)}::jsonb, queue_name => '{rng.choice(['fast', 'bulk', 'limited', 'hostile'])}',"
                f" priority => {rng.randrange(-20, 10)})")


class Chaos(threading.Thread):
    """Cancels jobs, and ends workers and servers."""

    def __init__(self, report, rng, until):
        super().__init__(name="chaos")
        self.report = report
        self.rng = rng
        self.until = until
        self.kills = 0
        self.terminated = 0

    def run(self):
        owner = fuzz.Session("postgres")
        next_kill = time.monotonic() + KILL_SECONDS / 2
        while time.monotonic() < self.until and not self.report.stopped.is_set():
            try:
                if time.monotonic() > next_kill:
                    next_kill += KILL_SECONDS
                    self.kill(owner)
                elif self.rng.random() < 0.5:
                    owner.query("SELECT backfill.cancel_job(id) FROM backfill.job WHERE task_identifier LIKE 'attack%' ORDER BY random() LIMIT 3")
                else:
                    self.terminated += 1
                    owner.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'backfill %' ORDER BY random() LIMIT 1")
            except (fuzz.Lost, RuntimeError):
                pass
            except fuzz.Hang as hang:
                self.report.problem(f"chaos: {hang}")
                return
            time.sleep(0.4)

    def kill(self, owner):
        rows = owner.query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'backfill executor' ORDER BY random() LIMIT 1").rows()
        if rows:
            self.kills += 1
            os.kill(int(rows[0][0]), signal.SIGKILL)


def drain(owner):
    """Waits until no job is due; returns what is left."""
    deadline = time.monotonic() + DRAIN_SECONDS
    left = None
    while time.monotonic() < deadline:
        left = owner.query("""SELECT count(*) FROM backfill.job
                               WHERE run_at < backfill._now() + '1 hour' OR task_identifier LIKE 'innocent%'""").value()
        if left == "0":
            return ""
        time.sleep(0.3)
    return owner.query("""SELECT string_agg(format('%s %s attempts %s, free %s: %s %s', j.id, j.task_identifier, j.attempts, j.free_retries,
                                                   backfill.why_not_running(j.id), left(j.payload::text, 300)), E'\\n')
                            FROM (SELECT * FROM backfill.job WHERE run_at < now() + '1 hour' ORDER BY id LIMIT 20) j""").value()


def main():
    options = fuzz.arguments(__doc__)
    report = fuzz.Report()
    owner = fuzz.Session("postgres")
    owner.query(SET_UP)
    until = time.monotonic() + options.seconds
    producers = [Producer(report, random.Random(f"{options.seed} {number}"), number, until) for number in (1, 2)]
    chaos = Chaos(report, random.Random(f"{options.seed} chaos"), until)
    threads = producers + [chaos]
    for thread in threads:
        thread.daemon = True
        thread.start()
    for thread in threads:
        thread.join(options.seconds + 4 * fuzz.HANG_SECONDS)
        if thread.is_alive():
            report.problem(f"{thread.name} does not come to its end")
    left = drain(owner)

    committed = set().union(*(producer.committed for producer in producers))
    uncertain = set().union(*(producer.uncertain for producer in producers))
    done = [int(row[0]) for row in owner.query("SELECT n FROM fuzz.ledger").rows()]
    print(f"# {sum(p.attacks for p in producers)} hostile jobs, {len(committed)} innocent ones, {chaos.terminated} workers terminated,"
          f" {chaos.kills} crashes")
    report.test(not report.problems, "producers and consumers of the driver were served", "\n\n".join(report.problems))
    report.test(not left, "all jobs that were due have run", left)
    missing = sorted(committed - set(done))
    report.test(not missing, "no innocent job is lost", f"{len(missing)} missing: {missing[:20]}")
    ours = [n for n in done if n > 0]
    twice = sorted({n for n in ours if ours.count(n) > 1}) if len(ours) != len(set(ours)) else []
    report.test(not twice, "no innocent job has had its effect twice", twice[:20])
    strangers = sorted(set(ours) - committed - uncertain)
    report.test(not strangers, "no job of an aborted transaction has run", strangers[:20])
    leaks = owner.query("SELECT what, count(*), min(n) FROM fuzz.leak GROUP BY what ORDER BY 2 DESC LIMIT 20").rows()
    report.test(not leaks, "innocent jobs find a fresh session", leaks)
    untouched = owner.query("""
        SELECT (SELECT string_agg(jewel, ',') FROM fuzz.crown) = 'sesame'
           AND NOT EXISTS (SELECT FROM pg_roles WHERE rolname IN ('fuzz_job', 'fuzz_other') AND rolsuper)
           AND NOT EXISTS (SELECT FROM fuzz.ledger WHERE n = -1) AND NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'r')
           AND (SELECT count(*) = 5 AND bool_and(run_as::text IN ('fuzz_job', 'fuzz_other')) FROM backfill.tasks)""").value()
    report.test(untouched == "t", "hostile jobs have reached nothing that their roles may not")
    stuck = owner.query("SELECT id, task_identifier, state FROM backfill.jobs WHERE state IN ('running', 'leased')").rows()
    report.test(not stuck, "no job is left running or leased", stuck)
    fuzz.check_readable(report, owner)
    fuzz.check_ordinary_job(report, owner)
    fuzz.check_storage(report, owner)
    fuzz.check_log(report, options.log, [])
    report.end()


main()

"""What the fuzz drivers share: connections below psycopg's conversions, hostile values, and
the checks that every run ends with.

A driver prints TAP. What went wrong is printed with the statement and the seed: the same seed
gives the same statements, though not the same timing.
"""

import argparse
import os
import random
import re
import select
import sys
import threading
import time

from psycopg import pq

# How long a statement may take after its cancellation before it counts as hanging.
STATEMENT_SECONDS = 20
HANG_SECONDS = 60


class Lost(Exception):
    """The connection is gone: a terminated session, or a server that restarts."""


class Hang(Exception):
    """A statement that neither ends nor can be cancelled."""


class Result:
    def __init__(self, result):
        self.result = result
        self.status = pq.ExecStatus(result.status)
        self.sqlstate = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        self.message = result.error_message.decode("utf-8", "replace").strip()

    @property
    def failed(self):
        return self.status == pq.ExecStatus.FATAL_ERROR

    def rows(self):
        columns = range(self.result.nfields)
        return [[self.result.get_value(row, column) for column in columns] for row in range(self.result.ntuples)]

    def value(self):
        return self.rows()[0][0].decode()

    def texts(self):
        """All bytes that the server has sent: rows, and every field of an error."""
        for row in self.rows():
            yield from (value for value in row if value is not None)
        for field in pq.DiagnosticField:
            text = self.result.error_field(field)
            if text is not None:
                yield text


class Session:
    """A connection as a role. Notices are kept until they are taken."""

    def __init__(self, role=None, options=""):
        self.role = role or os.environ["PGUSER"]
        self.options = options
        self.connection = None
        self.notices = []

    def connect(self, deadline):
        while True:
            self.connection = pq.PGconn.connect(
                f"user='{self.role}' application_name='fuzz {self.role}' options='{self.options}'".encode())
            if self.connection.status == pq.ConnStatus.OK:
                self.connection.notice_handler = self._note
                return
            if time.monotonic() > deadline:
                raise Hang(f"no connection as {self.role}: {self.connection.error_message.decode('utf-8', 'replace')}")
            time.sleep(0.2)

    def in_transaction(self):
        return self.connection.transaction_status != pq.TransactionStatus.IDLE

    def _note(self, result):
        self.notices.append(Result(result))

    def run(self, sql):
        """Run statements; returns the last result, or the one with the error."""
        self._send(sql)
        last = None
        while True:
            self._await(sql)
            result = self.connection.get_result()
            if result is None:
                break
            if last is None or not last.failed:
                last = Result(result)
            if result.status in (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT):
                raise Hang(f"COPY is not for this driver: {sql}")
        if self.connection.status != pq.ConnStatus.OK:
            raise Lost(last.message if last else "")
        return last

    def succeed(self, sql):
        """Run what must succeed."""
        result = self.run(sql)
        if result.failed:
            raise RuntimeError(f"{result.sqlstate} {result.message}\nin: {sql}")
        return result

    def query(self, sql):
        """The same, again when the connection is lost, also while the server restarts: for what may
        happen twice."""
        deadline = time.monotonic() + HANG_SECONDS
        while True:
            try:
                return self.succeed(sql)
            except Lost:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _send(self, sql):
        if self.connection is None or self.connection.status != pq.ConnStatus.OK:
            self.connect(time.monotonic() + HANG_SECONDS)
        try:
            self.connection.send_query(sql.encode("utf-8", "surrogateescape"))
        except Exception as error:
            raise Lost(str(error)) from error

    def _await(self, sql):
        cancelled = False
        deadline = time.monotonic() + STATEMENT_SECONDS
        while self.connection.is_busy():
            ready, _, _ = select.select([self.connection.socket], [], [], max(0, deadline - time.monotonic()))
            if ready:
                try:
                    self.connection.consume_input()
                except Exception as error:
                    raise Lost(str(error)) from error
            elif not cancelled:
                cancelled = True
                deadline = time.monotonic() + HANG_SECONDS
                self.connection.get_cancel().cancel()
            else:
                raise Hang(f"does not end, and cannot be cancelled: {sql[:2000]}")


class Report:
    """Counts the tests of TAP, and holds what went wrong, from several threads."""

    def __init__(self):
        self.lock = threading.Lock()
        self.problems = []
        self.seen = {}
        self.tests = 0
        self.failed = 0
        self.stopped = threading.Event()

    def problem(self, what, details=""):
        """The same thing is noted twice at most; after 20 things the run ends early."""
        with self.lock:
            self.seen[what] = self.seen.get(what, 0) + 1
            if self.seen[what] <= 2:
                self.problems.append(f"{what}\n{details}".rstrip())
        if len(self.seen) >= 20:
            self.stopped.set()

    def test(self, passed, name, details=""):
        self.tests += 1
        self.failed += 0 if passed else 1
        print(f"{'ok' if passed else 'not ok'} {self.tests} - {name}")
        if not passed and details:
            print("\n".join("# " + line for line in str(details).splitlines()[:200]))
        sys.stdout.flush()

    def end(self):
        print(f"1..{self.tests}")
        sys.exit(1 if self.failed else 0)


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--log", required=True, help="the server's log, which is read at the end")
    options = parser.parse_args()
    print(f"# seed {options.seed}, {options.seconds} s")
    sys.stdout.flush()
    return options


def literal(text):
    """A string constant that every setting of standard_conforming_strings reads alike."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"


# --- Hostile values ------------------------------------------------------------------------------

TEXTS = [
    "", " ", "a", "NULL", "{}", "[]", "null", "'", '"', "\\", "%s%n%x", "$1", "'; DROP TABLE backfill.job; --",
    "infinity", "-1", "9223372036854775808", "1e400", "*", ".", "..", "/etc/passwd", "pg_catalog", "backfill",
    "\x01\x02\x7f", "a\nb\tc\r", "é" * 64, "日本語", "🙂" * 32, "‮txt", "x" * 63, "x" * 64, "x" * 127, "x" * 128,
    "x" * 129, "é" * 128, "x" * 8191, "é" * 8192, "* * * * *", "*/5 0-3 1,15 * mon", "60 * * * *", "@reboot",
    "Europe/Berlin", "+02:00", "Mars/Base", "default", "fast", "graphile", "replace", "preserve_run_at",
    "unsafe_dedupe", "FAST_HIGH", "dead_letter", "bulk", "{1,2}", "{", "40001", "JB002",
]
INTEGERS = [0, 1, 2, 3, -1, 10, 100, 32767, 32768, -32768, -32769, 2147483647, -2147483648]
BIGINTS = INTEGERS + [2**53, 2**63 - 1, -(2**63)]
FLOATS = ["0", "-0.0", "0.5", "1", "-1", "1e308", "1e-308", "'NaN'", "'Infinity'", "'-Infinity'"]
INTERVALS = ["0", "1 microsecond", "1 second", "-1 second", "1 day", "1 month", "-1 month", "1 year 2 mons -3 days",
             "178000000 years", "-178000000 years", "2147483647 days", "-2147483648 mons", "10 ms", "infinity"]
TIMES = ["now", "epoch", "infinity", "-infinity", "294276-12-31 23:59:59+00", "4713-01-01 00:00:00 BC", "tomorrow",
         "yesterday", "1999-12-31 23:59:60+00"]
JSONS = ['{}', '[]', 'null', '"x"', '1', '-0', '1e400', '12345678901234567890123456789', 'true', '[1,[2,[3]]]',
         '{"a":{"b":[]}}', '""', '[null]', '[{}]', '"' + "x" * 10000 + '"', '[' * 5000 + ']' * 5000, '{"a":1,"a":2}']


class Values:
    """Makes expressions of a type. `names` and `ids` hold what exists, so that calls hit something."""

    def __init__(self, rng, types):
        self.rng = rng
        self.types = types  # oid: (name, typtype, element oid, [attribute type oids])
        self.names = {"task": [], "queue": [], "key": [], "role": [], "function": []}
        self.ids = []

    def text(self):
        rng = self.rng
        known = [name for kind in ("task", "queue", "key", "role", "function") for name in self.names[kind]]
        choice = rng.random()
        if choice < 0.55 and known:
            return literal(rng.choice(known))
        if choice < 0.97:
            return literal(rng.choice(TEXTS))
        return rng.choice(["repeat('x', 300000)", "repeat(E'\\u00e9', 100000)", "repeat('[', 20000)"])

    def json(self):
        rng = self.rng
        if rng.random() < 0.4:
            return literal(rng.choice(JSONS))
        keys = ["task_identifier", "identifier", "payload", "queue_name", "priority", "run_at", "max_attempts", "job_key",
                "job_key_mode", "retry_policy", "timeout", "sql", "run", "x"]
        made = []
        for _ in range(rng.choice([1, 1, 2, 5])):
            fields = {"task_identifier": rng.choice(self.names["task"] or ["t"])} if rng.random() < 0.8 else {}
            for key in rng.sample(keys, rng.randrange(4)):
                fields[key] = rng.choice(TEXTS[:30] + INTEGERS + self.names["key"] + [None, True, [], {}])
            made.append(fields)
        from json import dumps
        return literal(dumps(made if rng.random() < 0.7 else made[0], ensure_ascii=rng.random() < 0.5))

    def of(self, oid, depth=0):
        rng = self.rng
        name, kind, element, attributes = self.types[oid]
        if rng.random() < 0.12:
            return f"NULL::{name}"
        if element and kind == "b" and name.endswith("[]"):
            count = rng.choice([0, 1, 1, 2, 3, 30])
            if rng.random() < 0.03:
                return f"array_fill({self.of(element, depth + 1)}, ARRAY[2, 3])"
            return f"ARRAY[{', '.join(self.of(element, depth + 1) for _ in range(count))}]::{name}"
        if kind == "c":
            if depth > 2 or rng.random() < 0.1:
                return f"NULL::{name}"
            return f"ROW({', '.join(self.of(a, depth + 1) for a in attributes)})::{name}"
        return self._scalar(name)

    def _scalar(self, name):
        rng = self.rng
        if name in ("text", "name", "character varying"):
            return f"{self.text()}::{name}"
        if name in ("jsonb", "json"):
            return f"{self.json()}::{name}"
        if name == "bigint" and self.ids and rng.random() < 0.7:
            return f"{rng.choice(self.ids)}::bigint"
        if name in ("integer", "smallint", "bigint"):
            return f"({rng.choice(BIGINTS if name == 'bigint' else INTEGERS)})::{name}"
        if name in ("double precision", "real", "numeric"):
            return f"({rng.choice(FLOATS)})::{name}"
        if name == "boolean":
            return rng.choice(["true", "false"])
        if name == "interval":
            return f"{literal(rng.choice(INTERVALS))}::interval"
        if name == "timestamp with time zone":
            return f"{literal(rng.choice(TIMES))}::timestamptz"
        if name == "regprocedure":
            return rng.choice([f"{literal(f)}::regprocedure" for f in self.names["function"]]
                              + ["0::oid::regprocedure", "4294967295::oid::regprocedure", "'pg_catalog.now()'::regprocedure"])
        if name == "regrole":
            return rng.choice([f"{literal(r)}::regrole" for r in self.names["role"]]
                              + ["0::oid::regrole", "4294967295::oid::regrole"])
        if name == "tid":
            return rng.choice(["'(0,0)'::tid", "'(0,1)'::tid", "'(4294967295,65535)'::tid"])
        if name in ("xid", "oid"):
            return rng.choice([f"'{n}'::{name}" for n in (0, 1, 2, 3, 1000, 4294967295)])
        return f"{self.text()}::{name}"


def load_types(owner):
    types = {}
    for oid, name, kind, element, attributes in owner.query("""
            SELECT t.oid, format_type(t.oid, NULL), t.typtype, t.typelem,
                   (SELECT string_agg(a.atttypid::text, ',' ORDER BY a.attnum) FROM pg_attribute a
                     WHERE a.attrelid = t.typrelid AND t.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped)
              FROM pg_type t""").rows():
        types[int(oid)] = (name.decode(), kind.decode(), int(element),
                           [int(a) for a in attributes.decode().split(",")] if attributes else [])
    return types


# --- What must hold at the end -------------------------------------------------------------------

# What the server must never say. SQLSTATEs are in the log because of log_error_verbosity.
FATAL_LOG = re.compile(
    r"XX00[0-9]:|PANIC: |TRAP:|AddressSanitizer|runtime error:|stack smashing|double free|corrupted"
    r"|was terminated by signal (?!9\b)|exited with exit code (?![01]\b)")


def check_log(report, path, allowed):
    with open(path, encoding="utf-8", errors="replace") as log:
        lines = log.readlines()
    bad = {}
    for number, line in enumerate(lines):
        if FATAL_LOG.search(line) and not any(pattern.search(line) for pattern in allowed):
            bad.setdefault(line.split("] ", 1)[-1][:120], "".join(line[:1500] + "\n" for line in lines[number:number + 6]))
    report.test(not bad, "the server's log holds no internal error, crash or sanitizer report",
                "\n----\n".join(list(bad.values())[:10]))


def check_storage(report, owner):
    """The rows that the engine writes below SQL, against their indexes."""
    owner.query("CREATE EXTENSION IF NOT EXISTS amcheck")
    bad = []
    for name, in owner.query("""
            SELECT c.oid::regclass FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_class t ON t.oid = i.indrelid
             WHERE t.relnamespace = 'backfill'::regnamespace AND c.relkind = 'i'""").rows():
        result = owner.run(f"SELECT bt_index_check('{name.decode()}', true)")
        if result.failed:
            bad.append(f"{name.decode()}: {result.message}")
    for name, in owner.query("SELECT oid::regclass FROM pg_class WHERE relnamespace = 'backfill'::regnamespace AND relkind = 'r'").rows():
        for row in owner.query(f"SELECT blkno, offnum, msg FROM verify_heapam('{name.decode()}')").rows():
            bad.append(f"{name.decode()}: {row}")
    report.test(not bad, "tables and indexes agree (amcheck)", "\n".join(bad))


def check_readable(report, owner):
    bad = []
    for name, in owner.query("SELECT oid::regclass FROM pg_class WHERE relnamespace = 'backfill'::regnamespace AND relkind IN ('v', 'r')").rows():
        result = owner.run(f"SELECT count(*) FROM (SELECT * FROM {name.decode()} OFFSET 0) r WHERE r::text IS NOT NULL")
        if result.failed:
            bad.append(f"{name.decode()}: {result.sqlstate} {result.message}")
    for call in ("backfill.health()", "backfill.metrics()", "backfill.prometheus_metrics()"):
        result = owner.run(f"SELECT count(*) FROM {call} r WHERE r::text IS NOT NULL")
        if result.failed:
            bad.append(f"{call}: {result.sqlstate} {result.message}")
    report.test(not bad, "every view and table, health() and the metrics can be read", "\n".join(bad))


def check_ordinary_job(report, owner):
    """After all that: a new task in a new queue runs."""
    owner.query("""
        CREATE TABLE IF NOT EXISTS public.fuzz_last (n int);
        CREATE OR REPLACE FUNCTION public.fuzz_last(payload jsonb) RETURNS void LANGUAGE sql
            AS $$ INSERT INTO public.fuzz_last VALUES (1) $$;
        SELECT backfill.register_task('fuzz ordinary', 'public.fuzz_last(jsonb)');
        SELECT backfill.enqueue('fuzz ordinary', queue_name => 'fuzz ordinary', priority => -32768)""")
    deadline = time.monotonic() + 60
    done = False
    while not done and time.monotonic() < deadline:
        done = owner.query("SELECT count(*) FROM public.fuzz_last").value() != "0"
        if not done:
            time.sleep(0.1)
    why = "" if done else owner.query("""
        SELECT string_agg(backfill.why_not_running(id) || E'\\n', '') FROM backfill.job WHERE task_identifier = 'fuzz ordinary'""").value()
    report.test(done, "afterwards an ordinary job runs", why)

"""A random client: several roles at once call every route with values that are right, nearly right or hostile, and send
requests that are broken. Nothing of it may be an internal error, exceed a role's rights, or reach the database as SQL.

FUZZ_SECONDS is for how long (20), FUZZ_SEED repeats what is sent."""

import collections
import http.client
import json
import os
import random
import re
import threading
import time
import urllib.parse

from harness import *

SECONDS = float(os.environ.get("FUZZ_SECONDS") or 20)
SEED = int(os.environ.get("FUZZ_SEED") or random.randrange(2**32))
# What a client can bring about, and may be told.
STATUS = {200, 201, 204, 304, 400, 401, 403, 404, 405, 408, 409, 413, 415, 421, 422, 429, 431}
# 503 is right when calls of this test wait for each other.
BUSY = {"57014", "55P03", "40001", "40P01", "busy", "too_busy"}
# Routes that would end what the test needs.
LEFT_OUT = {"stream", "logout", "login"}

TEXTS = ["", "x", "fuzz", "fuzz_2", "web queue/ä", "'; DROP TABLE public.canary; --", "\" OR 1=1 --", "$1", "%s", "{\"a\":1}", "[]", "null",
         "a\0b", "\\u0000", "\ufffe", "\U0001f600" * 20, "x" * 300, "ready", "scheduled", "running", "23514", "fuzz-image",
         "<script>alert(1)</script>", "../../etc/passwd", "-1", "0", "1", "9223372036854775807", "9223372036854775808", "1e400", "NaN",
         "2030-01-01T00:00:00Z", "2030-13-45", "infinity", "-infinity", "* * * * *", "*/5 1-3 * * mon", "99 * * * *", "Europe/Berlin",
         "pg_catalog", "public.canary", "default", "replace", "preserve_run_at", "unsafe_dedupe", "all", "latest", "admin", "postgres"]
TIMES = ["2030-01-01T00:00:00Z", "2020-01-01", "2026-11-29 12:00:00.5+02", "0001-01-01T00:00:00Z", "294276-12-31T23:59:59Z", "9999-12-31"]
VALUES = [None, True, False, 0, 1, -1, 1.5, 1e308, 2**31, 2**63, -2**63 - 1, 10**40, [], {}, [[]], {"a": None}, ["1", "2"], [1, "x", None],
          {"task_identifier": "fuzz"}, {"n": 1}, {"filter": {"filter": {}}}]
WORDS = [b"\r\n", b"\r\n\r\n", b": ", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Transfer-Encoding: chunked\r\n", b"\0", b"\xff\xfe",
         b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"Host: evil.example\r\n", b"Cookie: ", b"%00", b"%2e%2e%2f", b"\"", b"{", b"}", b"5\r\nhello\r\n0\r\n\r\n",
         b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"X-Forwarded-User: admin\r\n", b"\n", b"Origin: null\r\n"]


class World:
    """What the clients share: the routes, values that exist, and what has been found."""

    def __init__(self, program):
        self.program = program
        description = program.request("GET", "/api/v1/openapi.json").json
        self.routes = [(operation["x-backfill-route"], method.upper(), path, operation)
                       for path, methods in description["paths"].items() for method, operation in methods.items()
                       if operation["x-backfill-route"] not in LEFT_OUT]
        self.known = collections.deque(["1", "fuzz"], maxlen=500)
        self.wrong = []
        self.counts = collections.Counter()
        self.until = time.monotonic() + SECONDS

    def note(self, what):
        if len(self.wrong) < 20:
            self.wrong.append(what)


class Client(threading.Thread):
    """One role's calls. Its numbers are drawn from the seed and its name."""

    def __init__(self, world, role, number):
        super().__init__()
        self.world, self.role = world, role
        self.random = random.Random(f"{SEED} {role} {number}")
        self.login()

    def login(self):
        client = self.world.program.login(self.role)
        self.cookie = client.cookie
        self.rights = client.get("/session").json["rights"]
        self.connection = None

    def text(self):
        source = self.random.random()
        if source < 0.4 and self.world.known:
            return self.random.choice(self.world.known)
        if source < 0.95:
            return self.random.choice(TEXTS)
        return "".join(chr(self.random.choice((self.random.randrange(1, 128), self.random.randrange(160, 0xd7ff)))) for _ in range(self.random.randrange(40)))

    def value(self, schema):
        """Right for its type, except in wild calls now and then."""
        if self.wild and self.random.random() < 0.25:
            return self.random.choice((self.random.choice(VALUES), self.text(), [self.text()], {self.text(): self.text()}))
        if "properties" in schema:
            return self.fields(schema["properties"], 0.3)
        kind = schema.get("type")
        if kind == "array":
            return [self.value(schema["items"]) for _ in range(self.random.randrange(4))]
        if kind in ("integer", "number"):
            return self.random.choice((0, 1, 2, 7, -5, 100, self.random.randrange(-40000, 40000)))
        if kind == "boolean":
            return self.random.random() < 0.5
        if "pattern" in schema:
            return self.random.choice([each for each in list(self.world.known) if each.isdigit()])
        if schema.get("format") == "date-time":
            return self.random.choice(TIMES)
        return self.text() if kind == "string" else self.random.choice(VALUES)

    def fields(self, properties, share):
        return {name: self.value(schema) for name, schema in properties.items() if self.random.random() < share}

    def quoted(self, schema):
        value = self.value(schema)
        text = value if isinstance(value, str) else json.dumps(value)
        return urllib.parse.quote(text, safe="", errors="surrogatepass")

    def request(self, method, path, operation):
        """A call of a route: path with query, and body."""
        self.wild = self.random.random() < 0.4
        places = {each["name"]: each["schema"] for each in operation.get("parameters", []) if "name" in each}
        path = re.sub(r"\{(\w+)\}", lambda found: self.quoted(places[found[1]]) or "0", path)
        query = [f"{each['name']}={self.quoted(each['schema'])}" for each in operation.get("parameters", [])
                 if each.get("in") == "query" and self.random.random() < 0.25]
        if self.random.random() < 0.03:
            query.append(f"{self.quoted({'type': 'string'})}={self.quoted({'type': 'string'})}")
        path += "?" + "&".join(query) if query else ""
        body = None
        if "requestBody" in operation:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            needed = schema.get("required", []) or [self.random.choice(each["required"])
                                                    for each in [self.random.choice(schema.get("oneOf", [{"required": []}]))] if each["required"]]
            fields = self.fields(schema["properties"], self.random.choice((0.1, 0.3, 0.8)))
            for name in needed:
                fields.setdefault(name, self.value(schema["properties"][name]))
            body = json.dumps(fields)
        return method, path, body

    def call(self, route, method, path, body):
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.world.program.port, timeout=DEADLINE)
        headers = {"Cookie": self.cookie}
        if body is not None:
            headers["Content-Type"] = "application/json"
        self.connection.request(method, path, body=body.encode("utf-8", "surrogatepass") if body else None, headers=headers)
        reply = self.connection.getresponse()
        content = reply.read()
        if reply.will_close:
            self.connection.close()
            self.connection = None
        self.check(route, f"{self.role}: {method} {path[:300]} {(body or '')[:500]}", reply.status, content)

    def check(self, route, what, status, content):
        self.world.counts[status] += 1
        code = None
        if content and route != "metrics":
            try:
                answer = json.loads(content)
            except ValueError:
                self.world.note(f"{what}: {status}, and no JSON: {content[:200]!r}")
                return
            if status >= 400:
                code = answer.get("code")
                if not (isinstance(answer.get("error"), str) and code and answer.get("timestamp")):
                    self.world.note(f"{what}: {status} without error, code and timestamp: {content[:200]!r}")
            else:
                self.learn(answer)
        if status not in STATUS and not (status == 503 and code in BUSY) or code == "XX000":
            self.world.note(f"{what}: {status} {content[:300]!r}")
        if status < 300 and self.rights.get(route) is False:
            self.world.note(f"{what}: {status}, which role {self.role} has no right to")

    def learn(self, answer):
        """Ids, names and cursors of answers are values for later calls."""
        for key, each in list(answer.items())[:10] if isinstance(answer, dict) else []:
            if key in ("id", "next", "job_id", "name", "queue_name") and isinstance(each, str):
                self.world.known.append(each)
            elif isinstance(each, list) and each:
                self.learn(self.random.choice(each))
            elif isinstance(each, dict):
                self.learn(each)

    def broken(self, method, path, body):
        """The same as bytes, of which some are others, on a connection of its own."""
        body = (body or "").encode("utf-8", "surrogatepass")
        data = bytearray(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {self.cookie}\r\nContent-Type: application/json\r\n"
                         f"Content-Length: {len(body)}\r\n\r\n".encode("utf-8", "surrogatepass") + body)
        for _ in range(self.random.randrange(1, 5)):
            at = self.random.randrange(len(data) + 1)
            data[at:at + self.random.choice((0, 0, 1, 5))] = self.random.choice(WORDS + [self.random.randbytes(3)])
        received = self.world.program.raw(bytes(data))
        self.world.counts["broken"] += 1
        if received and not re.match(rb"HTTP/1\.1 [1-4]\d\d |HTTP/1\.1 503 ", received):
            self.world.note(f"{bytes(data)!r}: {received[:200]!r}")

    def step(self):
        route, method, path, operation = self.random.choice(self.world.routes)
        request = self.request(method, path, operation)
        dice = self.random.random()
        if dice < 0.9:
            self.call(route, *request)
        elif dice < 0.98:
            self.broken(*request)
        elif dice < 0.99:
            self.call(None, self.random.choice(("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD")), request[1], None)
        else:
            events = Events(self, "/stream")
            events.close()

    @property
    def program(self):
        return self.world.program

    def run(self):
        try:
            while time.monotonic() < self.world.until and len(self.world.wrong) < 20:
                self.step()
        except Exception as error:
            self.world.note(f"{self.role}: {error!r}")
            raise


def made():
    """What no call of the API may change."""
    return sql("SELECT (SELECT array_agg(rolname::text ORDER BY rolname) FROM pg_roles), (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_proc), "
               "(SELECT array_agg(text) FROM public.canary), (SELECT count(*) FROM pg_db_role_setting)")


def churn(world):
    """Dead letters and waiting jobs, so that there is always something to act on."""
    with connect() as connection:
        while time.monotonic() < world.until:
            rows = connection.execute("SELECT backfill.enqueue('fuzz', jsonb_build_object('n', n), queue_name => 'fuzz') FROM generate_series(1, 10) n").fetchall()
            dead = [row[0] for row in rows[:4]]
            connection.execute("SELECT backfill.permanently_fail_jobs(%s::bigint[], 'fuzz')", [dead])
            world.known.extend(str(row[0]) for row in rows)
            world.known.extend(str(row[0]) for row in connection.execute("SELECT id FROM backfill.dlq ORDER BY id DESC LIMIT 4").fetchall())
            # A queue that was made full, or paused for good, would end the fun.
            connection.execute("SELECT backfill.delete_queue(queue_name) FROM backfill.queues WHERE max_depth IS NOT NULL")
            threading.Event().wait(0.5)


def test_random_calls():
    print(f"# seed {SEED}, {SECONDS:g} seconds", flush=True)
    sql("CREATE TABLE public.canary AS SELECT 'alive' AS text")
    sql("SELECT backfill.register_task('fuzz')")
    before = made()
    with Program("--statement-timeout", "10", "--max-sessions", "5000") as program:
        world = World(program)
        clients = [Client(world, role, number) for number, role in enumerate(("admin", "admin", "monitor", "consumer", "producer", "guest"))]
        feeder = threading.Thread(target=churn, args=(world,))
        for thread in [feeder, *clients]:
            thread.start()
        for thread in [*clients, feeder]:
            thread.join()
        print(f"# calls by status: {dict(sorted(world.counts.items(), key=str))}", flush=True)
        equal(world.wrong, [], "no call was answered wrongly")
        ok(sum(world.counts.values()) > 20 and world.counts[200] > 0, "calls were answered")
        equal(program.request("GET", "/healthz").status, 200, "it still answers")
    ok(True, "the program ends clean, without a report of the sanitizers")
    equal(made(), before, "nothing of a request was run as SQL")
    with open(f"{SOCKET_DIR}/server.log", encoding="utf-8", errors="replace") as log:
        bad = [line for line in log if re.search(r"TRAP:|was terminated by|XX000|PANIC:|internal error", line)]
    equal(bad[:5], [], "the server's log has no internal error")


if __name__ == "__main__":
    run(globals())

"""Every route as every role, against the table rights.txt and against what SQL says for the same role."""

import json
import os
import re

import psycopg

from harness import *

TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rights.txt")
STATUS = {"no": 403, "login": 401}

# What is sent to routes that need something; {job}, {letter} and {name} are new for each call, because most change them.
BODIES = {
    "jobs.enqueue": {"task_identifier": "rights"},
    "jobs.update": {"payload": {"n": 2}},
    "jobs.reschedule": {"priority": 7},
    "jobs.cancel_many": {"ids": ["{job}"]},
    "jobs.reschedule_many": {"ids": ["{job}"], "priority": 7},
    "queues.set": {"concurrency": 2},
    "dlq.update": {"notes": "seen"},
    "dlq.requeue": {},
    "dlq.requeue_many": {"ids": ["{letter}"]},
    "dlq.delete_many": {"ids": ["{letter}"]},
    "dlq.cleanup": {"task_identifier": "rights_none"},
    "schedules.set": {"cron": "* * * * *", "task_identifier": "rights"},
}
QUERIES = {"cron.preview": "?cron=*+*+*+*+*"}


def read_table():
    """The columns' names, and the rows: pairs of SQL, and expectations by column."""
    with open(TABLE, encoding="utf-8") as file:
        cells = [[cell.strip() for cell in line.split("|")] for line in file if "|" in line and "---" not in line]
    header, *rows = cells
    return header[2:], {row[0]: (row[1], dict(zip(header[2:], row[2:]))) for row in rows}


def operations():
    """(route, method, path, status of success, whether it changes something), from the program's own description."""
    document = json.loads(subprocess.run([PROGRAM, "--openapi"], check=True, capture_output=True).stdout)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            success = next(int(status) for status in operation["responses"] if status != "default")
            yield operation["x-backfill-route"], method.upper(), path, success, operation["x-backfill-changes"]


def make_objects(number):
    """A waiting job, a dead letter, a task, a queue and a schedule for one call."""
    name = f"rights_{number}"
    with connect() as connection:
        connection.execute("SET client_min_messages = error")
        connection.execute("SELECT backfill.register_task(%s, keep_history => '1 hour')", [name])
        connection.execute("SELECT backfill.set_queue(%s, concurrency => 1)", [name])
        connection.execute("SELECT backfill.schedule(%s, '0 0 1 1 *', %s)", [name, name])
        dead, job = (connection.execute("SELECT backfill.enqueue('rights', '{\"n\": 1}')").fetchone()[0] for _ in "ab")
        connection.execute("SELECT backfill.permanently_fail_jobs(ARRAY[%s::bigint], 'broken')", [dead])
        letter = connection.execute("SELECT id FROM backfill.dlq WHERE original_job_id = %s", [dead]).fetchone()[0]
    return {"job": str(job), "letter": str(letter), "name": name}


def filled(value, objects):
    return json.loads(re.sub(r"\{(job|letter|name)\}", lambda found: objects[found[1]], json.dumps(value)))


def status_of(client, route, method, path, objects):
    """Calls a route; client is a function like Program.request()."""
    identifier = objects["letter" if route.startswith("dlq.") else "job"]
    path = path.replace("{id}", identifier).replace("{name}", objects["name"]) + QUERIES.get(route, "")
    return client(method, path, filled(BODIES.get(route), objects))


def sql_as(role, statement, objects):
    """Whether a role may run a statement, and what it returns; nothing stays of it."""
    with connect() as connection:
        connection.execute("BEGIN")
        connection.execute("SET LOCAL TimeZone = 'UTC'")
        connection.execute(f"SET LOCAL ROLE {role}")
        try:
            row = connection.execute(statement, objects).fetchone()
            return True, row[0] if row else None
        except psycopg.errors.InsufficientPrivilege:
            return False, None
        finally:
            connection.execute("ROLLBACK")


class Caller:
    """One column of the table: calls as a role, or without a login."""

    def __init__(self, program, role):
        self.program, self.role = program, role
        self.client = role and program.login(role)

    def call(self, method, path, body):
        headers = {"Cookie": self.client.cookie} if self.client else {}
        return self.program.request(method, path, body, headers)

    def stream_status(self):
        events = Events(self.client or Client(self.program, "", None), "/stream")
        events.close()
        return events.status

    def login_status(self):
        name = self.role or "monitor"
        return self.program.request("POST", "/api/v1/login", {"user": name, "password": name}).status


def check(caller, column, route, method, path, wanted, statement, objects):
    """Compares the status with the table, then with SQL."""
    reply = None
    if route == "stream":
        status = caller.stream_status()
    elif route == "login":
        status = caller.login_status()
    else:
        reply = status_of(caller.call, route, method, path, objects)
        status = reply.status
    what = f"{column}: {method} {path}"
    if not ok(status == wanted, f"{what} is {wanted}"):
        print(f"#   got {status} {reply.body[:300] if reply else ''}", flush=True)
    if route == "logout" and caller.client:
        caller.client = caller.program.login(caller.role)
    return reply, what


def test_table_is_complete():
    columns, rows = read_table()
    equal(columns, ["admin", "monitor", "consumer", "producer", "guest", "without", "read-only"], "the table's columns")
    routes = {route for route, *_ in operations()}
    equal(set(rows) - routes, set(), "every row is a route that the description has")
    equal(routes - set(rows), set(), "every route of the description has a row")


def test_roles():
    columns, rows = read_table()
    number = 0
    sql("SELECT backfill.set_queue('rights', concurrency => 1)")
    with Program() as program:
        for column in columns[:-1]:
            caller = Caller(program, None if column == "without" else column)
            for route, method, path, success, _ in operations():
                statement, expected = rows[route]
                objects = make_objects(number := number + 1)
                if route == "queues.get":
                    objects["name"] = "rights"
                allowed, answer = sql_as(column, statement.removeprefix("= "), objects) if caller.client else (None, None)
                wanted = STATUS.get(expected[column], success)
                reply, what = check(caller, column, route, method, path, wanted, statement, objects)
                if caller.client:
                    equal(allowed, expected[column] == "yes", f"{what}: SQL says the same")
                if statement.startswith("= ") and wanted == 200:
                    equal(reply.json, answer, f"{what}: its answer is SQL's")


def test_rights_of_the_session():
    """What the page offers is what the table says."""
    columns, rows = read_table()
    for options, names in (((), columns[:5]), (("--read-only",), ["read-only"])):
        with Program(*options) as program:
            for column in names:
                rights = program.login("admin" if column == "read-only" else column).get("/session").json["rights"]
                wanted = {route: expected[column] == "yes" for route, (_, expected) in rows.items()}
                equal({route: rights.get(route) for route in wanted}, wanted, f"{column}: GET /session")


def test_read_only():
    _, rows = read_table()
    with Program("--read-only") as program:
        caller = Caller(program, "admin")
        for number, (route, method, path, success, changes) in enumerate(operations()):
            expected = rows[route][1]["read-only"]
            ok(expected == ("no" if changes else "yes"), f"{route}: the table says no to changes only")
            wanted = STATUS.get(expected, success)
            reply, _ = check(caller, "read-only", route, method, path, wanted, "", make_objects(f"read_{number}"))
            if wanted == 403:
                equal(reply.json["code"], "read_only", f"read-only: {method} {path} says why")


if __name__ == "__main__":
    run(globals())

"""What the tests of backfill-web share: TAP, the program, and HTTP without any help.

A test file defines functions test_...(server), and ends with run(globals()). run.sh gives it a server of
PostgreSQL: PGHOST is the directory of its socket, the user postgres may log in there without a password,
every other role needs its own (scram-sha-256)."""

import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import traceback

import psycopg

PROGRAM = os.environ["BACKFILL_WEB"]
SOCKET_DIR = os.environ["PGHOST"]
DEADLINE = 120 * float(os.environ.get("BACKFILL_TEST_SLOWNESS", "1"))
ROLES = ("admin", "monitor", "consumer", "producer")

count = 0
failures = 0


def ok(good, name):
    global count, failures
    count += 1
    failures += not good
    print(f"{'ok' if good else 'not ok'} {count} - {name}", flush=True)
    if not good:
        caller = sys._getframe(2) if sys._getframe(1).f_code.co_name in ("equal", "status") else sys._getframe(1)
        print(f"#   Failed test in line {caller.f_lineno}", flush=True)
    return good


def equal(got, wanted, name):
    if not ok(got == wanted, name):
        print(f"#   got: {str(got)[:2000]!r}\n#   wanted: {wanted!r}", flush=True)


def until(condition, what):
    """Waits for something that the test has brought about."""
    deadline = time.monotonic() + DEADLINE
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited in vain: {what}")
        time.sleep(0.05)
    return value


def connect(database="postgres", **options):
    return psycopg.connect(host=SOCKET_DIR, user="postgres", dbname=database, autocommit=True, **options)


def sql(text, *values):
    with connect() as connection:
        cursor = connection.execute(text, values or None)
        return cursor.fetchall() if cursor.description else []


def value(text, *values):
    return sql(text, *values)[0][0]


def make_roles():
    """Roles of each bundle, with their name as the password, and guest, which may only log in."""
    for role in ROLES + ("guest",):
        if not value("SELECT count(*) FROM pg_roles WHERE rolname = %s", role):
            sql(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'")
            if role in ROLES:
                sql(f"SELECT backfill.grant_{role}('{role}')")


def web_connections():
    return value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'backfill-web'")


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)


class Program:
    """The program, listening on a port of its own."""

    def __init__(self, *options, databases=("main",), wait=True, tls=None):
        self.port = free_port()
        self.tls = tls
        arguments = [PROGRAM, "--listen", f"127.0.0.1:{self.port}"]
        for name in databases:
            arguments += ["--database", f"{name}=host={SOCKET_DIR} dbname=postgres"]
        arguments += options
        if tls:
            arguments += ["--tls-cert", tls[0], "--tls-key", tls[1]]
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(arguments, stderr=self.log, stdout=subprocess.DEVNULL)
        if wait:
            until(self.answers, "the program listens")

    def answers(self):
        if self.process.poll() is not None:
            raise RuntimeError("the program ended: " + self.messages())
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
            return True
        except ConnectionRefusedError:
            return False

    def messages(self):
        self.log.seek(0)
        return self.log.read()

    def connect(self, timeout=60):
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        if not self.tls:
            return raw
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(raw)

    def raw(self, data, timeout=60):
        """All that is sent back until the connection ends."""
        received = b""
        with self.connect(timeout) as connection:
            connection.settimeout(timeout)
            try:
                connection.sendall(data if isinstance(data, bytes) else data.encode())
                connection.shutdown(socket.SHUT_WR)
                while piece := connection.recv(65536):
                    received += piece
            except (ConnectionResetError, BrokenPipeError):
                pass
        return received

    def request(self, method, path, body=None, headers=None, timeout=60):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        connection.sock = self.connect(timeout)
        headers = dict(headers or {})
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        connection.request(method, path, body=body, headers=headers)
        reply = connection.getresponse()
        result = Reply(reply.status, reply.headers, reply.read())
        connection.close()
        return result

    def login(self, user, password=None, **more):
        reply = self.request("POST", "/api/v1/login", {"user": user, "password": password or user, **more})
        if reply.status != 200:
            raise RuntimeError(f"login as {user}: {reply.status} {reply.body}")
        return Client(self, reply.headers["Set-Cookie"].split(";")[0], reply)

    def refused_tries(self, user):
        """Wrong passwords until one is refused, or more than ten and one for each six seconds were taken: their statuses."""
        statuses = []
        started = time.monotonic()
        while not statuses or statuses[-1] == 401 and len(statuses) <= 11 + (time.monotonic() - started) / 6:
            statuses.append(self.request("POST", "/api/v1/login", {"user": user, "password": "x"}).status)
        return statuses

    def stop(self):
        self.process.terminate()
        status = self.process.wait(DEADLINE)
        messages = self.messages()
        if status != 0 or "internal error" in messages or "runtime error" in messages:
            raise RuntimeError(f"the program ended with {status}: {messages}")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.process.kill()
            self.process.wait()
        else:
            self.stop()


class Client:
    """A session of a role."""

    def __init__(self, program, cookie, login):
        self.program, self.cookie, self.login = program, cookie, login

    def call(self, method, path, body=None, headers=None, **more):
        return self.program.request(method, "/api/v1" + path, body, {"Cookie": self.cookie, **(headers or {})}, **more)

    def get(self, path, **more):
        return self.call("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.call("POST", path, body, **more)

    def events(self, path="/stream"):
        return Events(self, path)


class Events:
    """Server-Sent Events, one at a time: pairs of name and data."""

    def __init__(self, client, path):
        self.connection = http.client.HTTPConnection("127.0.0.1", client.program.port, timeout=DEADLINE)
        self.connection.sock = client.program.connect(DEADLINE)
        self.connection.request("GET", "/api/v1" + path, headers={"Cookie": client.cookie})
        self.reply = self.connection.getresponse()
        self.status = self.reply.status

    def next(self, name=None):
        """The next event of that name; None at the end."""
        event = None
        while line := self.reply.readline():
            text = line.decode().rstrip("\n")
            if text.startswith("event: "):
                event = text[7:]
            elif text.startswith("data: ") and (name is None or event == name):
                return event, json.loads(text[6:])
        return None

    def close(self):
        self.reply.close()
        self.connection.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def as_server(*command):
    """Runs a program as the server's owner."""
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run([*prefix, *command], check=True, cwd="/", stdout=subprocess.DEVNULL)


def pg_ctl(*command):
    binaries = subprocess.run([os.environ["PG_CONFIG"], "--bindir"], check=True, capture_output=True, text=True)
    as_server(binaries.stdout.strip() + "/pg_ctl", "-D", f"{SOCKET_DIR}/data", "-l", f"{SOCKET_DIR}/server.log", "-w",
              "-m", "fast", *command)


def make_certificate(directory, name="localhost"):
    certificate, key = f"{directory}/{name}.pem", f"{directory}/{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", certificate, "-days", "2", "-subj", f"/CN={name}"],
                   check=True, capture_output=True)
    return certificate, key


def run(names):
    make_roles()
    only = sys.argv[1:]
    for name, function in list(names.items()):
        if not name.startswith("test_") or (only and name not in only):
            continue
        print(f"# {name}", flush=True)
        try:
            function()
        except Exception:
            ok(False, f"{name} ended early")
            print("".join("#   " + line + "\n" for line in traceback.format_exc().splitlines()), flush=True)
    print(f"1..{count}", flush=True)
    sys.exit(failures > 0)

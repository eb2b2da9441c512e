"""TLS, proxies, and the command line."""

import http.client
import os
import re
import signal
import ssl
import subprocess
import tempfile
import warnings

from harness import *


def test_tls():
    with tempfile.TemporaryDirectory() as directory:
        pair = make_certificate(directory)
        with Program(tls=pair) as program:
            client = program.login("admin")
            cookie = client.login.headers["Set-Cookie"]
            ok("Secure" in cookie and cookie.startswith("__Host-"), "the cookie is for TLS only, and for this host")
            ok("max-age" in client.login.headers["Strict-Transport-Security"], "browsers are told to stay with TLS")
            equal(client.get("/overview").status, 200, "requests go over TLS")
            events = client.events()
            ok(events.next("sample") is not None, "and so do events")
            events.close()
            with socket.create_connection(("127.0.0.1", program.port)) as plain:
                plain.settimeout(60)
                plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                received = plain.recv(65536)
            ok(b"HTTP" not in received and b"<html" not in received, "plain HTTP gets nothing")
            warnings.simplefilter("ignore", DeprecationWarning)
            for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                context.minimum_version = context.maximum_version = version
                context.set_ciphers("ALL:@SECLEVEL=0")
                try:
                    context.wrap_socket(socket.create_connection(("127.0.0.1", program.port)))
                    ok(False, f"{version.name} is not spoken")
                except (ssl.SSLError, OSError):
                    ok(True, f"{version.name} is not spoken")
            other = make_certificate(directory, "other")
            os.replace(other[0], pair[0])
            os.replace(other[1], pair[1])
            program.process.send_signal(signal.SIGHUP)
            def subject():
                pem = ssl.get_server_certificate(("127.0.0.1", program.port))
                return subprocess.run(["openssl", "x509", "-noout", "-subject"], input=pem, capture_output=True, text=True).stdout
            until(lambda: "other" in subject(), "a new certificate is read at SIGHUP")
            ok(True, "a new certificate is read at SIGHUP")
            with open(pair[1], "w") as key:
                key.write("broken")
            program.process.send_signal(signal.SIGHUP)
            until(lambda: "those from before stay" in program.messages(), "a broken key is complained of")
            equal(client.get("/session").status, 200, "and the old one stays")


def make_authenticator():
    if not value("SELECT count(*) FROM pg_roles WHERE rolname = 'authenticator'"):
        sql("CREATE ROLE authenticator LOGIN NOINHERIT PASSWORD 'authenticator'")
        sql("GRANT admin, monitor TO authenticator")
        sql("SELECT backfill.grant_admin('authenticator')")  # what a request must not get by mistake


def proxied(*options):
    make_authenticator()
    program = Program(*options, databases=(), wait=False)
    return program


def test_proxy():
    make_authenticator()
    conninfo = f"main=host={SOCKET_DIR} dbname=postgres user=authenticator password=authenticator"
    with Program("--trusted-proxy", "127.0.0.1", "--proxy-user-header", "X-Forwarded-User", "--database", conninfo,
                 databases=()) as program:
        def get(path, user, **headers):
            return program.request("GET", "/api/v1" + path, headers={"X-Forwarded-User": user, **headers})
        session = get("/session", "monitor").json
        equal((session["user"], session["role"], session["proxy_login"]), ("authenticator", "monitor", True), "the proxy's role acts")
        ok(session["rights"]["jobs.list"] and not session["rights"]["jobs.cancel"], "with its rights only")
        equal(get("/overview", "monitor").status, 200, "it looks")
        equal(program.request("POST", "/api/v1/jobs/1/cancel", headers={"X-Forwarded-User": "monitor"}).status, 403, "but acts not")
        equal(program.request("POST", "/api/v1/jobs/987654321/cancel", headers={"X-Forwarded-User": "admin"}).status, 404,
              "another role does")
        for user in ("none", "NONE", "None", "", "producer", "postgres", "nosuch", "authenticator\x01", "a" * 64, 'monitor"; RESET ROLE; --',
                     "pg_read_all_data", " none "):
            reply = get("/overview", user)
            ok(reply.status in (400, 401), f"role {user[:20]!r} is refused: {reply.status}")
        equal(program.request("GET", "/api/v1/session").status, 401, "without the header there is no session")
        connection = http.client.HTTPConnection("127.0.0.1", program.port)
        connection.putrequest("GET", "/api/v1/session")
        for user in ("monitor", "admin"):
            connection.putheader("X-Forwarded-User", user)
        connection.endheaders()
        equal(connection.getresponse().status, 401, "nor with two of them")
        ok("Secure" in str(program.request("POST", "/api/v1/login", {"user": "admin", "password": "admin"},
                                           {"X-Forwarded-Proto": "https"}).headers), "the proxy's TLS counts")
        equal(program.request("POST", "/api/v1/logout", headers={"X-Forwarded-User": "admin"}).status, 409, "the proxy logs out")
        events = Events(Client(program, "", None), "/stream")
        equal(events.status, 401, "events need the header, too")
    with Program("--trusted-proxy", "127.0.0.1", "--database", conninfo, databases=()) as program:
        equal(program.request("GET", "/api/v1/session", headers={"X-Forwarded-User": "admin"}).status, 401,
              "a proxy that was not said to name roles names none")
    with Program("--trusted-proxy", "127.0.0.2", "--proxy-user-header", "X-Forwarded-User", "--database", conninfo,
                 databases=()) as program:
        equal(program.request("GET", "/api/v1/session", headers={"X-Forwarded-User": "admin"}).status, 401,
              "the header of an address that is not the proxy's means nothing")
        reply = program.request("POST", "/api/v1/login", {"user": "admin", "password": "admin"}, {"X-Forwarded-Proto": "https"})
        ok("Secure" not in reply.headers["Set-Cookie"], "nor do its other headers")


def test_cookie_over_http():
    make_authenticator()
    with Program("--trusted-proxy", "127.0.0.1") as program:
        secure = {"X-Forwarded-Proto": "https"}
        reply = program.request("POST", "/api/v1/login", {"user": "admin", "password": "admin"}, secure)
        cookie = {"Cookie": reply.headers["Set-Cookie"].split(";")[0]}
        equal(program.request("GET", "/api/v1/session", headers={**cookie, **secure}).status, 200, "a cookie of TLS counts by TLS")
        equal(program.request("GET", "/api/v1/session", headers=cookie).status, 401, "and not without")


def command(*arguments):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=DEADLINE)


def test_command_line():
    ok("--database NAME=CONNINFO" in command("--help").stdout, "--help says what there is")
    ok(command("--version").stdout.startswith("backfill-web "), "--version")
    with Program() as program:
        equal(command("--openapi").stdout.encode(), program.request("GET", "/api/v1/openapi.json").body, "--openapi prints what is served")
        taken = command("--listen", f"127.0.0.1:{program.port}", "--database", "a=host=x")
        ok(taken.returncode == 1 and "cannot listen" in taken.stderr, "a port that is taken")
    for arguments in ((), ("--nonsense",), ("--database", "x"), ("--database", "a=nonsense=1"), ("--listen", "x"),
                      ("--database", "a=host=x", "--tls-cert", "/nothing"), ("--config", "/nothing"),
                      ("--database", "a=host=x", "--database", "a=host=y"), ("--database", "a=service=nosuch"),
                      ("--database", "a=host=x", "--proxy-user-header", "X-User"),
                      ("--database", "a=host=x", "--allowed-host", "https://queue.example"),
                      ("--database", "a=host=x", "--tls-cert", "/nothing", "--tls-key", "/nothing")):
        result = command(*arguments)
        ok(result.returncode == 2 and result.stderr.startswith("backfill-web: "), f"{arguments}: {result.stderr}".strip())
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(f"# a comment\ndatabase = second=host={SOCKET_DIR} dbname=postgres\nread-only = on\nlisten = [::1]:0\n")
        file.flush()
        with Program("--config", file.name) as program:
            session = program.login("admin").login.json
            equal((sorted(session["databases"]), session["read_only"]), (["main", "second"], True), "a file adds to the options")
            ok("[::1]" in program.messages(), "and listens on another address")
    with Program("--database", f"none=host={SOCKET_DIR} dbname=nosuch") as program:
        connections = [program.connect() for _ in range(50)]
        events = program.login("admin").events()
        events.next("sample")
        program.stop()
        equal((program.process.returncode, events.next("gone")), (0, None), "it ends, whatever is connected, and so do events")
        for connection in connections:
            connection.close()


def test_options_in_documents():
    tree = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    with open(os.path.join(tree, "web", "backfill-web.1"), encoding="utf-8") as file:
        entries = file.read().replace("\\-", "-").split("\n.TP\n")
    with open(os.path.join(tree, "docs", "web.md"), encoding="utf-8") as file:
        rows = [line for line in file if line.startswith("| `--")]
    options = re.findall(r"^  --(\S+)(.*(?:\n {32}.*)?)", command("--help").stdout.split("Options:\n")[1], re.MULTILINE)
    ok(len(options) > 20, f"--help lists {len(options)} options")
    for name, text in options:
        default = re.search(r"\(([0-9]+)\)", text)
        for document, parts in (("the manual page", entries), ("the guide", rows)):
            found = [part for part in parts if re.search(rf"--{name}(?![a-z-])", part)]
            ok(any(default is None or re.search(rf"\b{default[1]}\b", part) for part in found),
               f"{document} has --{name}" + (f" and its default {default[1]}" if default else ""))


def test_full_log():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    port = free_port()
    process = subprocess.Popen([PROGRAM, "--listen", f"127.0.0.1:{port}", "--database", f"main=host={SOCKET_DIR}"], stderr=writing)
    def answers():
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except OSError:
            return False
    try:
        until(answers, "it answers")
        ok(True, "a log that is full does not stop the program")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
        os.close(reading)
        os.close(writing)


if __name__ == "__main__":
    run(globals())

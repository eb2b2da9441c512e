"""Input that is wrong, or meant to do harm: a clear answer of 400 to 499, and nothing happens."""

import contextlib
import itertools
import json
import random
import socket
import urllib.parse

from harness import *

TEXTS = ["", "'", '"', "\\", "' OR 1=1 --", "'; DROP TABLE backfill.job; --", "$1", "%", "%%", "_", "../../etc/passwd", "\x7f",
         "\u202e", "😀" * 20, "a" * 100000, "<script>alert(1)</script>", "\r\nSet-Cookie: a=b", "NULL", "{", "{1,2}",
         "-1", "0", "9223372036854775808", "1e5", "NaN", "infinity", "true", "2030-02-30", "0000-00-00", "999999-01-01"]
VALUES = [None, True, 5, -1, 2**31, 2**63, 2**64, 1.5, 1e300, -0.0, "", "x", [], [1], {}, {"a": 1}, [[["deep"]]], "a" * 5000,
          "\ud800", "a\0b"]


def document(program):
    return program.request("GET", "/api/v1/openapi.json").json


def operations(program):
    for path, methods in document(program)["paths"].items():
        for method, operation in methods.items():
            if operation["x-backfill-route"] not in ("login", "logout", "stream", "openapi", "session"):
                yield method.upper(), path, operation


def fields_of(operation):
    body = operation.get("requestBody")
    return body["content"]["application/json"]["schema"]["properties"] if body else {}


def test_texts_everywhere():
    """Each text in each parameter of each route that reads."""
    with Program() as program:
        client = program.login("admin")
        bad = []
        tried = 0
        for method, path, operation in operations(program):
            if method != "GET":
                continue
            names = [p["name"] for p in operation.get("parameters", []) if "name" in p]
            for name, text in itertools.product(names, TEXTS):
                quoted = urllib.parse.quote(text, safe="")
                if len(quoted) > 15000:
                    quoted = quoted[:15000]
                place = path.removeprefix("/api/v1")
                if "{" + name + "}" in place:
                    place = place.replace("{" + name + "}", quoted)
                else:
                    place = place.replace("{id}", "1").replace("{name}", "x") + f"?{name}={quoted}"
                reply = client.get(place)
                tried += 1
                if reply.status not in (200, 400, 403, 404, 405, 409, 422, 431) or b"XX000" in reply.body:
                    bad.append((place[:100], reply.status, reply.body[:200]))
        ok(not bad and tried > 500, f"{tried} requests with hostile texts: {bad[:5]}")
        equal(value("SELECT count(*) >= 0 FROM backfill.job"), True, "the table is still there")


def test_values_everywhere():
    """Each value in each field of each route that changes, of objects that are not there."""
    with Program() as program:
        client = program.login("admin")
        bad = []
        tried = 0
        for method, path, operation in operations(program):
            place = path.removeprefix("/api/v1").replace("{id}", "987654321").replace("{name}", "no%20such%20thing")
            fields = fields_of(operation)
            required = {name: "x" for name in ("task_identifier", "cron") if name in fields}
            for field, wrong in itertools.product(fields, VALUES):
                body = json.dumps({**required, field: wrong})
                reply = client.call(method, place, body, {"Content-Type": "application/json"})
                tried += 1
                if reply.status >= 500 or b"XX000" in reply.body:
                    bad.append((method, place, body[:100], reply.status, reply.body[:200]))
        ok(not bad and tried > 500, f"{tried} requests with wrong values: {bad[:5]}")


def test_bodies():
    with Program() as program:
        client = program.login("admin")
        def post(body, kind="application/json"):
            return client.call("POST", "/jobs", body, {"Content-Type": kind}).status
        before = value("SELECT count(*) FROM backfill.job")
        for body, status in ((b"{", 400), (b"[]", 400), (b"null", 400), (b"\xff\xfe", 400), (b'{"task_identifier":"\xff"}', 400),
                             (b'{"task_identifier":"\\ud800"}', 400), (b'{"task_identifier":"a","task_identifier":"b"}', 400),
                             (b"[" * 100000, 400), (b'{"task_identifier":"t","payload":' + b"[" * 100000, 400),
                             (b'{"task_identifier":"t","payload":' + b"[" * 199 + b"]" * 199 + b"}", 201),
                             (b'{"task_identifier":"t","payload":"\\u0000"}', 400), (b"\x00", 400), (b" ", 422), (b"", 422)):
            equal(post(body), status, f"a body of {body[:40]!r}")
        equal(value("SELECT count(*) FROM backfill.job"), before + 1, "only the right one was enqueued")
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
            equal(post(b'{"task_identifier":"t"}', kind), 415, f"content type {kind!r}")
        payload = {"html": "</script><script>alert(1)</script>", "text": "\u2028 ' \" \\ 😀"}
        job = client.post("/jobs", {"task_identifier": "<img src=x onerror=alert(1)>", "payload": payload}).json["id"]
        equal(client.get(f"/jobs/{job}").json["job"]["payload"], payload, "what looks like a page is only text")
        equal(client.get(f"/jobs/{job}").headers["Content-Type"], "application/json", "and is never sent as a page")


def test_paths():
    with Program() as program:
        for path in ("/assets/../../../etc/passwd", "/assets/%2e%2e/%2e%2e/etc/passwd", "/assets/..%2fapp.css", "/assets//etc/passwd",
                     "/assets/app.css%00.html", "/assets/%ff"):
            reply = program.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            ok(reply.split(b" ")[1] in (b"400", b"404") and b"root:" not in reply, f"{path} is no file of this machine")
        equal(program.request("GET", "/assets/app.css").headers["Content-Type"], "text/css; charset=utf-8", "a file of the page")
        reply = program.request("GET", "/assets/app-0A1B2C3D.js", headers={"Accept-Encoding": "gzip"})
        ok(reply.headers["Content-Encoding"] == "gzip" and "immutable" in reply.headers["Cache-Control"], "compressed, to be kept")
        page = program.request("GET", "/jobs/5?x=y")
        ok(page.status == 200 and b"The tests' page" in page.body, "every other path is the page")
        ok("script-src 'self'" in page.headers["Content-Security-Policy"] and "unsafe" not in
           page.headers["Content-Security-Policy"], "which runs scripts of its own only")
        etag = page.headers["ETag"]
        equal(program.request("GET", "/", headers={"If-None-Match": etag}).status, 304, "unchanged, it is not sent again")
        equal(program.request("HEAD", "/").body, b"", "HEAD has no body")
        equal(program.request("OPTIONS", "/api/v1/jobs/1").headers["Allow"], "DELETE, GET, HEAD, OPTIONS, PATCH", "OPTIONS")
        equal(program.request("PUT", "/api/v1/jobs/1").status, 405, "a method that is not possible")
        equal(program.request("GET", "/api/v1/nothing").status, 404, "a route that is not there")


def test_other_sites():
    with Program() as program:
        client = program.login("admin")
        for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
                        {"Sec-Fetch-Site": "same-site"}, {"Origin": f"https://evil.example:{program.port}"}):
            equal(client.call("POST", "/jobs/1/cancel", None, headers).status, 403, f"a change with {headers}")
            equal(program.request("POST", "/api/v1/login", {"user": "admin", "password": "admin"}, headers).status, 403, "a login")
        equal(client.call("POST", "/jobs/987654321/cancel", None, {"Origin": f"http://127.0.0.1:{program.port}"}).status, 404,
              "the page itself may")
        for host in ("evil.example", "localhost.evil.example", f"127.0.0.1.evil.example:{program.port}"):
            equal(program.request("GET", "/api/v1/session", headers={"Host": host}).status, 421, f"host {host}")
        equal(program.request("GET", "/", headers={"Host": "evil.example"}).status, 421, "nor does the page come by such a name")
    with Program("--allowed-host", "queue.example") as program:
        equal(program.request("GET", "/", headers={"Host": "queue.example:80"}).status, 200, "a name that was allowed")


def test_smuggling():
    """Requests that two programs could cut in different places: one answer, and the connection ends."""
    with Program() as program:
        client = program.login("admin")
        start = f"POST /api/v1/jobs/1/cancel HTTP/1.1\r\nHost: localhost\r\nCookie: {client.cookie}\r\n"
        hidden = "GET /api/v1/session HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for headers in ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
                        "Transfer-Encoding: xchunked\r\n", "Transfer-Encoding: chunked, x\r\n", "Transfer-Encoding : chunked\r\n",
                        "Content-Length: 0\r\nContent-Length: 44\r\n", "Content-Length: +0\r\n", "Content-Length: 0, 44\r\n",
                        "Transfer-Encoding:\x0bchunked\r\n", "X: y\nContent-Length: 44\r\n", "Content-Length: 0\r\n X: 5\r\n"):
            received = program.raw(start + headers + "\r\n" + "0\r\n\r\n" + hidden)
            ok(received.count(b"HTTP/1.1 ") == 1 and received.startswith(b"HTTP/1.1 400"), f"{headers!r}: {received[:60]!r}")
        received = program.raw(hidden + hidden + "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" + hidden)
        equal((received.count(b"HTTP/1.1 401"), received.count(b"HTTP/1.1 200")), (2, 1), "requests in a row are answered in order")


def test_limits():
    with Program() as program:
        client = program.login("admin")
        ok(program.raw("GET / HTTP/1.1\r\nHost: localhost\r\nX: " + "x" * 20000 + "\r\n\r\n").startswith(b"HTTP/1.1 431"),
           "a header that is too large")
        start = f"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nCookie: {client.cookie}\r\n"
        ok(program.raw(start + "Content-Length: 1073741824\r\n\r\n" + "x" * 100000).startswith(b"HTTP/1.1 413"),
           "a body that is too large is not read")
        chunks = "10000\r\n" + "x" * 65536 + "\r\n"
        ok(program.raw(start + "Transfer-Encoding: chunked\r\n\r\n" + chunks * 40).startswith(b"HTTP/1.1 413"), "nor in chunks")
        login = "POST /api/v1/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        ok(program.raw(login + "Content-Length: 100000\r\n\r\n").startswith(b"HTTP/1.1 413"), "a login is small")
        for path in ("/api/v1/login", "/api//v1/login", "/api/v1/%6cogin", "//api/v1//login?x="):
            reply = program.raw(login.replace("/api/v1/login", path) + "Transfer-Encoding: chunked\r\n\r\n" + chunks)
            ok(reply.startswith(b"HTTP/1.1 413"), f"also in chunks, as {path}")
        reply = program.raw(login + "Transfer-Encoding: chunked\r\n\r\n2;" + "x" * 200000 + "\r\n{}\r\n0\r\n\r\n")
        ok(reply.startswith(b"HTTP/1.1 400"), f"what stands around a chunk is small: {reply[:60]}")
        reply = program.raw(login + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" + "X: y\r\n" * 40000 + "\r\n")
        ok(reply.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431")), f"and so is what follows the last one: {reply[:60]}")
        start = "POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        ok(program.raw(start + "Content-Length: 1000000\r\n\r\n").startswith(b"HTTP/1.1 401"),
           "without a session the body is not waited for")
        reply = client.call("POST", "/jobs", b'{"task_identifier":"t","payload":"' + b"x" * 1000000 + b'"}',
                            {"Content-Type": "application/json", "Expect": "100-continue"})
        equal(reply.status, 201, "nearly a megabyte is not too much")
        ok(program.raw("NONSENSE\r\n\r\n").startswith(b"HTTP/1.1 400"), "bytes that are no request")
        ok(program.raw(b"\x16\x03\x01\x02\x00\x01\x00").startswith(b"HTTP/1.1 400"), "nor is a handshake of TLS")


def test_trailers():
    """Headers after the body come when it has been decided what the request is."""
    with Program() as program:
        client = program.login("admin")
        start = f"POST /api/v1/jobs/987654321/cancel HTTP/1.1\r\nHost: localhost\r\nCookie: {client.cookie}\r\n" \
                "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
        ok(program.raw(start + "\r\n").startswith(b"HTTP/1.1 404"), "a body in chunks")
        for trailer in ("X: y\r\n", "Cookie: a=b\r\n", "Backfill-Background: 1\r\n"):
            received = program.raw(start + trailer + "\r\n" + "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            ok(received.startswith(b"HTTP/1.1 400") and received.count(b"HTTP/1.1 ") == 1, f"{trailer!r}: {received[:60]!r}")


def hold(program, address, data):
    """Ten connections from an address that have had the first byte of an answer, or have made room again."""
    connections = [socket.create_connection(("127.0.0.1", program.port), 60, (address, 0)) for _ in range(10)]
    for connection in connections:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(data.encode())
    for connection in connections:
        with contextlib.suppress(ConnectionResetError):
            connection.recv(1)
    return connections


def test_clients_that_hold_on():
    """Connections that send no body, do not read their reply, or listen, make room for others."""
    login = "POST /api/v1/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n" \
            "Expect: 100-continue\r\n\r\n"
    with Program("--max-connections", "40", "--max-connections-per-address", "20") as program:
        held = [hold(program, f"127.0.0.{n // 2 + 2}", login) for n in range(4)]
        client = program.login("admin")
        ok(True, "a login beside connections of two addresses that send no body")
        page = "GET /api/v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100
        held += [hold(program, f"127.0.0.{n // 2 + 6}", page) for n in range(4)]
        equal(client.get("/session").status, 200, "requests beside as many that do not read")
        for n in range(4):
            cookie = program.login("admin").cookie
            held.append(hold(program, f"127.0.0.{n // 2 + 4}", f"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n"))
        equal(client.get("/session").status, 200, "beside as many that listen")
        equal(program.login("monitor").get("/session").status, 200, "and another login")
        for connections in held:
            for connection in connections:
                connection.close()


def test_streams_of_a_session():
    with Program() as program:
        client = program.login("admin")
        streams = [client.events() for _ in range(17)]
        equal([stream.status for stream in streams], [200] * 16 + [503], "a session has not more than 16 streams")
        ok(streams[15].next("sample") is not None, "and all of those are fed")
        for stream in streams:
            stream.close()


def test_slow_clients():
    """Clients that hold connections, or send a byte now and then, do not keep others waiting."""
    with Program("--max-connections", "300", "--max-connections-per-address", "250") as program:
        client = program.login("admin")
        idle = [program.connect() for _ in range(200)]
        slow = [program.connect() for _ in range(40)]
        for number, connection in enumerate(slow):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: loc"[:number % 25 + 1])
        def is_closed(connection):
            connection.settimeout(0.01)
            try:
                return connection.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True
        equal(client.get("/workers").status, 200, "a request is answered beside them")
        ok(not is_closed(slow[-1]), "and has not waited for them")
        equal({client.get("/workers").status for _ in range(20)}, {200}, "so are others")
        more = [program.connect() for _ in range(60)]
        equal(client.get("/workers").status, 200, "with no room left, those that only wait have to go")
        until(lambda: is_closed(slow[0]), "a slow client is closed")
        ok(True, "a header has to come in time")
        for connection in idle + slow + more:
            connection.close()


def test_random_bytes():
    seed = random.randrange(2**32)
    generator = random.Random(seed)
    print(f"# seed {seed}")
    with Program() as program:
        client = program.login("admin")
        good = f"POST /api/v1/jobs/cancel HTTP/1.1\r\nHost: localhost\r\nCookie: {client.cookie}\r\nContent-Type: application/json\r\n" \
               "Content-Length: 20\r\n\r\n{\"ids\":[\"987654321\"]}".encode()
        for _ in range(300):
            data = bytearray(good)
            for _ in range(generator.randrange(1, 6)):
                at = generator.randrange(len(data))
                data[at:at + generator.randrange(3)] = generator.randbytes(generator.randrange(3))
            received = program.raw(bytes(data))
            if b" 500 " in received[:20]:
                ok(False, f"{bytes(data)!r}: {received!r}")
        equal(client.get("/session").status, 200, "300 broken requests later it still answers")


if __name__ == "__main__":
    run(globals())

"""Logins, sessions and rights: the database decides, and a session is its cookie."""

import base64
import json

from harness import *


def test_login_and_logout():
    with Program() as program:
        reply = program.request("POST", "/api/v1/login", {"user": "admin", "password": "admin"})
        equal(reply.status, 200, "a role logs in with its password")
        cookie = reply.headers["Set-Cookie"]
        ok("HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/" in cookie, "no script gets the cookie")
        ok("Secure" not in cookie, "over plain HTTP it is not Secure")
        session = reply.json
        equal((session["user"], session["role"], session["database"]), ("admin", "admin", "main"), "it names its role")
        equal(session["versions"]["server"], value("SHOW server_version"), "it says which server it is")
        client = Client(program, cookie.split(";")[0], reply)
        equal(client.get("/session").json, session, "GET /session says the same as the login")
        equal(client.post("/logout").status, 204, "it logs out")
        equal(client.get("/session").status, 401, "the cookie is worth nothing then")
        until(lambda: web_connections() == 0, "no connection is left")


def test_wrong_logins():
    with Program() as program:
        for user, password in (("admin", "wrong"), ("admin", ""), ("nosuch", "x"), ("", "x"), ("a" * 64, "x"),
                               ("admin\x01", "x"), ("admin' --", "x"), ("postgres", "postgres")):
            reply = program.request("POST", "/api/v1/login", {"user": user, "password": password})
            equal((reply.status, reply.json["code"]), (401, "28P01"), f"login as {user[:9]!r} with {password!r}")
            ok("Set-Cookie" not in reply.headers, "and there is no cookie")
        long = [program.request("POST", "/api/v1/login", {"user": "a" * 10000 + str(n), "password": "x"}).status for n in range(25)]
        equal(long, [401] * 25, "what cannot be a name is kept nowhere, and costs no try")
        for body in ({}, {"user": "admin"}, {"user": 5, "password": "x"}, {"user": "a\0", "password": "x"},
                     {"user": "admin", "password": ["admin"]}, {"user": "admin", "password": "x", "extra": 1}):
            equal(program.request("POST", "/api/v1/login", body).status, 422, f"login with {body}")
        equal(program.request("POST", "/api/v1/login", {"user": "admin", "password": "admin", "database": "x"}).status,
              404, "login to a database that is not known")


def test_no_password_needed():
    """The role postgres needs none here (trust): any password would do, so none does."""
    with Program() as program:
        reply = program.request("POST", "/api/v1/login", {"user": "postgres", "password": "anything"})
        equal(reply.status, 401, "a role that needs no password cannot log in")
        ok("pg_hba.conf" in program.messages(), "the operator is told why")


def test_too_many_tries():
    with Program() as program:
        statuses = program.refused_tries("monitor")
        equal(statuses[:10], [401] * 10, "ten tries fail")
        equal(statuses[-1], 429, "then no more are made")
        reply = program.request("POST", "/api/v1/login", {"user": "monitor", "password": "monitor"})
        equal(reply.status, 429, "not with the right password either")
        ok(int(reply.headers["Retry-After"]) >= 1, "and it says when to come again")
        program.login("admin")
        ok(True, "other roles log in meanwhile")
    with Program() as program:
        for _ in range(30):
            program.login("admin")
        ok(True, "logins that succeed are not counted")


def test_no_fixation():
    with Program() as program:
        planted = "backfill_session=" + "0" * 64
        reply = program.request("POST", "/api/v1/login", {"user": "admin", "password": "admin"}, {"Cookie": planted})
        ok(planted not in reply.headers["Set-Cookie"], "a planted cookie does not become the session's")
        first = program.login("admin")
        reply = first.call("POST", "/login", {"user": "monitor", "password": "monitor"})
        ok(first.cookie not in reply.headers["Set-Cookie"], "a second login has another cookie")
        equal(first.get("/session").status, 401, "and ends the first session")


def test_expiry():
    with Program("--idle-timeout", "10") as program:
        again = program.login("monitor")
        client, lively, watcher = program.login("admin"), program.login("admin"), program.login("monitor")
        events = watcher.events()
        def has_ended():
            again.events().close()
            return (lively.get("/session").status == 200
                    and client.get("/workers", headers={"Backfill-Background": "1"}).status == 401)
        until(has_ended, "the session ends")
        equal(again.get("/session").status, 401, "nor does a page that opens its events again and again")
        ok(True, "a session that only its page uses ends")
        equal(lively.get("/session").status, 200, "one that its user uses does not")
        while event := events.next():
            last = event[0]
        ok(last in ("sample", "health", "gone"), "the events of a session end with it")
        equal(watcher.get("/session").status, 401, "events do not keep it alive")


def test_rights():
    with Program() as program:
        rights = {role: program.login(role).login.json["rights"] for role in ROLES + ("guest",)}
        ok(all(rights["admin"].values()), "an admin may do everything: "
           + ", ".join(k for k, v in rights["admin"].items() if not v))
        equal([rights[r]["payloads"] for r in ROLES], [True, False, True, False], "admins and consumers see payloads")
        ok(rights["monitor"]["overview"] and rights["monitor"]["jobs.list"], "a monitor looks")
        ok(not any(rights["monitor"][r] for r in ("jobs.cancel", "jobs.enqueue", "queues.pause", "dlq.requeue")),
           "a monitor changes nothing")
        equal([rights[r]["jobs.enqueue"] for r in ROLES + ("guest",)], [True, False, False, True, False],
              "admins and producers enqueue")
        ok(not any(v for k, v in rights["guest"].items() if k not in ("login", "logout", "session", "openapi")),
           "a role without grants may do nothing")
        guest = program.login("guest")
        for path in ("/overview", "/jobs", "/jobs/1", "/queues", "/dlq", "/tasks", "/workers", "/health", "/stream"):
            reply = guest.get(path)
            equal((reply.status, reply.json["code"]), (403, "42501"), f"and GET {path} says so")
        producer = program.login("producer")
        sql("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA backfill FROM producer")
        equal(producer.post("/jobs", {"task_identifier": "t"}).status, 403, "a right that was revoked is gone at once")
        ok(not producer.get("/session").json["rights"]["jobs.enqueue"], "and the page is told")
        sql("SELECT backfill.grant_producer('producer')")


def test_without_session():
    with Program() as program:
        document = program.request("GET", "/api/v1/openapi.json").json
        for path, methods in document["paths"].items():
            for method in methods:
                if path.endswith(("/login", "/openapi.json")):
                    continue
                reply = program.request(method.upper(), path.replace("{id}", "1").replace("{name}", "x"))
                equal((reply.status, reply.json["code"]), (401, "no_session"), f"{method} {path} needs a session")
        equal(program.request("GET", "/metrics").status, 401, "so do the metrics")


def test_metrics():
    with Program() as program:
        def metrics(user, password):
            credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
            return program.request("GET", "/metrics", headers={"Authorization": "Basic " + credentials})
        reply = metrics("monitor", "monitor")
        equal((reply.status, reply.headers["Content-Type"]), (200, "text/plain; version=0.0.4; charset=utf-8"),
              "metrics for Prometheus")
        ok(b"backfill_" in reply.body, "with the queue's metrics")
        equal(metrics("monitor", "wrong").status, 401, "not with a wrong password")
        equal(metrics("guest", "guest").status, 403, "not without the right")
        for _ in range(5):
            metrics("monitor", "monitor")
        ok(web_connections() <= 2, "all scrapes have one connection")
        client = program.login("monitor")
        equal(program.request("GET", "/metrics", headers={"Cookie": client.cookie}).status, 200, "a session does, too")


def test_read_only():
    with Program("--read-only") as program:
        client = program.login("admin")
        rights = client.login.json["rights"]
        ok(client.login.json["read_only"] and not rights["jobs.enqueue"] and rights["jobs.list"], "nothing to change")
        equal(client.post("/jobs", {"task_identifier": "t"}).json["code"], "read_only", "a change is refused")
        equal(client.get("/jobs").status, 200, "reading is not")
        with connect() as connection:
            until(lambda: connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'backfill-web'").fetchone()[0] > 0,
                "a connection")


def test_sessions_of_a_role():
    with Program("--max-sessions", "3", "--max-sessions-per-role", "2") as program:
        first, second, other = program.login("admin"), program.login("admin"), program.login("monitor")
        first.get("/session")
        third = program.login("admin")
        equal([client.get("/session").status for client in (first, second, third, other)], [200, 401, 200, 200],
              "a role with too many sessions loses the one that it has not used for longest")
    with Program("--max-sessions", "1") as program:
        basic = {blanks: program.request("GET", "/metrics", headers={
            "Authorization": f"Basic{blanks}" + base64.b64encode(b"monitor:monitor").decode()}).status for blanks in (" ", "  ", " \t ")}
        equal(set(basic.values()), {200}, f"the same credentials are one session, however they are written: {basic}")


def test_bounds():
    with Program("--max-sessions", "3") as program:
        clients = [program.login("admin") for _ in range(3)]
        reply = program.request("POST", "/api/v1/login", {"user": "admin", "password": "admin"})
        equal((reply.status, reply.json["code"]), (503, "too_many_sessions"), "no more sessions than are allowed")
        clients[0].post("/logout")
        program.login("admin")
        ok(True, "after a logout there is room")
        ok(web_connections() <= 3, "sessions that were refused leave no connection")


if __name__ == "__main__":
    run(globals())

"""The database goes away and comes back, roles and rights change meanwhile: clear answers, and it goes on."""

import os
import socket
import threading

from harness import *


def test_restart():
    with Program() as program:
        client = program.login("admin")
        events = client.events()
        events.next("sample")
        client.post("/jobs", {"task_identifier": "web_restart"})
        pg_ctl("stop")
        reply = client.get("/overview")
        ok(reply.status == 503 and reply.json["code"].startswith(("08", "57P")), f"without the server: {reply.body}")
        ok(b"/tmp" not in reply.body and b"socket" not in reply.body, "and it does not say where that would be")
        equal(program.request("GET", "/healthz").status, 200, "the program itself is well")
        equal(program.request("POST", "/api/v1/login", {"user": "admin", "password": "admin"}).status, 503,
              "a login is not a wrong one")
        ok("error" in events.next("gone")[1], "listeners are told")
        pg_ctl("start")
        until(lambda: client.get("/overview").status == 200, "requests are answered again")
        ok(events.next("sample") is not None, "the same stream goes on")
        equal(client.post("/jobs", {"task_identifier": "web_restart"}).status, 201, "and so do changes")
        events.close()


def test_terminate():
    with Program() as program:
        client = program.login("admin")
        for _ in range(5):
            client.get("/workers")
            sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'backfill-web'")
            until(lambda: web_connections() == 0, "its connections are gone")
            equal(client.post("/jobs", {"task_identifier": "web_terminate"}).status, 201, "the next request has another")
        events = client.events()
        for _ in range(3):
            events.next("sample")
            sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'backfill-web'")
        ok(events.next("sample") is not None, "events go on")
        events.close()


def test_statement_is_ended():
    """A statement that is cut off in the middle, by an administrator or the time limit."""
    with Program("--statement-timeout", "2") as program:
        client = program.login("admin")
        with connect() as locking:
            locking.autocommit = False
            locking.execute("LOCK TABLE backfill.task IN ACCESS EXCLUSIVE MODE")
            reply = client.get("/tasks")
            equal((reply.status, reply.json["code"] in ("55P03", "57014")), (reply.status, True), "a lock is not waited for long")
            ok(reply.status in (409, 503), "and the answer says so")
            result = []
            thread = threading.Thread(target=lambda: result.append(client.get("/tasks")))
            thread.start()
            until(lambda: value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'backfill-web' "
                                "AND wait_event_type = 'Lock'"), "it waits")
            sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'backfill-web'")
            thread.join()
            ok(result[0].status in (409, 503), f"its connection is ended: {result[0].body}")
        equal(client.get("/tasks").status, 200, "then it works again")


def test_role_is_dropped():
    sql("CREATE ROLE web_gone LOGIN PASSWORD 'web_gone'")
    sql("SELECT backfill.grant_monitor('web_gone')")
    with Program() as program:
        client = program.login("web_gone")
        events = client.events()
        events.next("sample")
        sql("DROP OWNED BY web_gone")
        sql("DROP ROLE web_gone")
        ok(client.get("/overview").status in (401, 403), "a role that was dropped may do nothing")
        sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'backfill-web'")
        until(lambda: client.get("/session").status == 401, "its session ends when it cannot log in again")
        while event := events.next():
            last = event
        equal(last[0], "gone", "its events end")


def test_rights_are_revoked():
    sql("CREATE ROLE web_listener LOGIN PASSWORD 'web_listener'")
    sql("SELECT backfill.grant_monitor('web_listener')")
    with Program() as program:
        admin, listener = program.login("admin"), program.login("web_listener")
        first, events = admin.events(), listener.events()
        events.next("health")
        sql("DROP OWNED BY web_listener")
        while event := events.next():
            last = event
        equal((last[0], last[1]["code"]), ("gone", "42501"), "events of a role that lost the right end")
        ok(first.next("sample") is not None, "those of others go on")
        equal(listener.get("/session").json["rights"]["overview"], False, "its session knows")
        first.close()
    sql("DROP ROLE web_listener")


def test_password_is_changed():
    sql("CREATE ROLE web_changed LOGIN PASSWORD 'before'")
    with Program() as program:
        client = program.login("web_changed", "before")
        sql("ALTER ROLE web_changed PASSWORD 'after'")
        sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'backfill-web'")
        until(lambda: client.get("/session").status == 401, "the old password's session ends")
        equal(client.get("/session").json["code"], "no_session", "for good")
        program.login("web_changed", "after")
    sql("DROP ROLE web_changed")


PORT = os.environ.get("PGPORT", "5432")


def test_first_host_is_away():
    """Hosts that do not take connections, or take them and say nothing, leave time for the next one."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with Program("--database", f"main=host=127.0.0.1,{SOCKET_DIR} port={port},{PORT} dbname=postgres", databases=()) as program:
            equal(program.login("admin").get("/workers").status, 200, "a login beyond a host that is silent")
    with Program("--database", f"main=host=127.0.0.1,{SOCKET_DIR} port={free_port()},{PORT} dbname=postgres", databases=()) as program:
        statuses = program.refused_tries("monitor")
        equal((statuses[:10], statuses[-1]), ([401] * 10, 429), "beyond one that is away, wrong passwords are counted")
        sql("CREATE ROLE web_changed LOGIN PASSWORD 'before'")
        client = program.login("web_changed", "before")
        sql("ALTER ROLE web_changed PASSWORD 'after'")
        sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'backfill-web'")
        until(lambda: client.get("/session").status == 401, "and end the session")
        ok(True, "and end the session")
    sql("DROP ROLE web_changed")


def test_login_is_checked():
    """A session that only listens opens no connection, but the server is asked whether its role may log in."""
    sql("CREATE ROLE web_watcher LOGIN PASSWORD 'web_watcher'")
    sql("SELECT backfill.grant_monitor('web_watcher')")
    with Program("--login-check", "1") as program:
        admin, watcher = program.login("admin"), program.login("web_watcher")
        first, events = admin.events(), watcher.events()
        first.next("sample")
        events.next("sample")
        sql("ALTER ROLE web_watcher NOLOGIN")
        while event := events.next():
            last = event
        equal(last[0], "gone", "the events of a role that may not log in any more end")
        equal(watcher.get("/session").status, 401, "and so does its session")
        ok(first.next("sample") is not None, "those of others go on")
        first.close()
    sql("DROP OWNED BY web_watcher")
    sql("DROP ROLE web_watcher")


def test_busy_session():
    """The first listener's session has no connection to spare: the others' take the samples."""
    with Program("--session-db-connections", "1", "--statement-timeout", "300") as program:
        busy, other = program.login("admin"), program.login("monitor")
        first = busy.events()
        first.next("sample")
        events = other.events()
        events.next("sample")
        with connect() as locking:
            locking.autocommit = False
            locking.execute("LOCK TABLE backfill.retry_policy IN ACCESS EXCLUSIVE MODE")
            thread = threading.Thread(target=lambda: busy.get("/retry-policies"))
            thread.start()
            until(lambda: value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'backfill-web' "
                                "AND wait_event_type = 'Lock'"), "its request waits")
            seen = [events.next()[0] for _ in range(8)]
            ok("sample" in seen and "gone" not in seen, f"samples go on: {seen}")
        thread.join()
        first.close()
        events.close()


def test_connections_are_bounded():
    with Program("--max-db-connections", "3", "--session-db-connections", "2") as program:
        clients = [program.login("admin") for _ in range(4)]
        replies = []
        def ask(client):
            for _ in range(10):
                replies.append(client.get("/workers").status)
        threads = [threading.Thread(target=ask, args=(client,)) for client in clients * 3]
        for thread in threads:
            thread.start()
        most = 0
        with connect() as connection:
            while any(thread.is_alive() for thread in threads):
                most = max(most, connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name "
                                                    "= 'backfill-web' AND state IS NOT NULL").fetchone()[0])
        equal(replies.count(200), 120, "twelve clients of four sessions are all answered")
        ok(most <= 4, f"with three connections (seen: {most}, one of which may have been ending)")


def test_unused_connections():
    with Program() as program:
        program.login("admin")
        until(lambda: web_connections() == 0, "a connection that is not used is closed")
        ok(True, "without a request the database has no connection")


def test_several_databases():
    sql("CREATE DATABASE web_empty")
    with Program("--database", f"empty=host={SOCKET_DIR} dbname=web_empty",
                 "--database", f"missing=host={SOCKET_DIR} dbname=web_missing",
                 "--database", "away=host=/nowhere dbname=x") as program:
        client = program.login("admin")
        equal(client.login.json["databases"], ["main", "empty", "missing", "away"], "all are named")
        reply = client.get("/overview?database=empty")
        equal((reply.status, reply.json["code"]), (503, "3F000"), "one without the extension")
        ok("CREATE EXTENSION" in reply.json["hint"], "says what to do")
        session = client.get("/session?database=empty").json
        equal((session["database"], session["versions"]["extension"], session["rights"]["jobs.list"]), ("empty", None, False),
              "and has no rights")
        equal(client.get("/overview?database=missing").json["code"], "3D000", "one that does not exist")
        equal(client.get("/overview?database=away").status, 503, "one that cannot be reached")
        equal(client.get("/stream?database=away").status, 503, "nor listened to")
        reply = client.get("/stream?database=empty")
        equal((reply.status, reply.json["code"]), (503, "3F000"), "nor one without the extension")
        equal(client.get("/overview").status, 200, "the first is as well as ever")
    sql("DROP DATABASE web_empty WITH (FORCE)")


if __name__ == "__main__":
    run(globals())

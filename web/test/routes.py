"""Every route once, with real jobs, and its answer against the database's."""

import itertools
import json

from harness import *

urgency = itertools.count(1)


def setup():
    sql("SELECT backfill.register_task('web_fails')")
    sql("SELECT backfill.set_queue('web queue/ä', concurrency => 2)")


def fail_job(payload):
    """A dead letter, by a consumer that fails a job for good: the newest, which is more urgent than those before."""
    job = value("SELECT backfill.enqueue('web_fails', %s::jsonb, priority => %s::integer)", json.dumps(payload), -next(urgency))
    token = value("SELECT claim_token FROM backfill.claim_jobs('test', 1, ARRAY['web_fails'])")
    sql("SELECT backfill.fail_job(%s::bigint, %s, 'broken <b>', permanent => true)", job, token)
    return str(job), str(value("SELECT id FROM backfill.dlq WHERE original_job_id = %s", job))


def test_looking():
    setup()
    sql("SELECT backfill.enqueue('web_look', jsonb_build_object('n', n), queue_name => 'web_q') FROM generate_series(1, 3) n")
    with Program() as program:
        client = program.login("admin")
        for path, key in (("/overview", "jobs"), ("/status", "jobs"), ("/health", "checks"), ("/workers", "workers"),
                          ("/tasks", "tasks"), ("/retry-policies", "retry_policies"), ("/history", "history"),
                          ("/jobs", "jobs"), ("/queues", "queues"), ("/dlq", "letters"), ("/dlq?offset=0", "letters"),
                          ("/dlq/groups", "groups"), ("/dlq/stats", "total_jobs"), ("/schedules", "schedules"),
                          ("/audit", "entries"), ("/cron/next?cron=*/5+*+*+*+*", "next")):
            reply = client.get(path)
            ok(reply.status == 200 and key in reply.json, f"GET {path}: {reply.status} {reply.body[:200]!r}")
        page = client.get("/jobs?task_identifier=web_look&limit=2").json
        equal(len(page["jobs"]), 2, "a page has as many jobs as asked for")
        rest = client.get("/jobs?task_identifier=web_look&limit=2&cursor=" + page["next"]).json
        equal(len(rest["jobs"]), 1, "and the next page the rest")
        job = page["jobs"][0]
        ok(isinstance(job["id"], str) and job["payload"] == {"n": 3}, "ids are strings, payloads are JSON")
        equal(client.get(f"/jobs?id={job['id']}").json["jobs"][0]["id"], job["id"], "a job by its id")
        equal(client.get("/jobs?id=999999999").json["jobs"], [], "none by another")
        equal(client.get(f"/jobs/{job['id']}").json["job"]["id"], job["id"], "its details")
        equal(client.get("/jobs/999999999").status, 404, "a job that is not known")
        equal(client.get("/jobs?payload=%7B%22n%22:1%7D&task_identifier=web_look").json["jobs"][0]["payload"], {"n": 1},
              "a job by what its payload contains")
        equal(client.get("/queues/web%20queue%2F%C3%A4").json["queue_name"], "web queue/ä", "a queue of any name")
        equal(client.get("/queues/web_q/stats").json["ready"]["count"], 3, "its figures by the other path")
        equal(client.get("/queues/nosuch").status, 404, "a queue that is not there")
        equal(client.get("/health").json["status"] in ("ok", "warning", "critical"), True, "health has one word")
        monitor = program.login("monitor")
        equal(monitor.get("/jobs?task_identifier=web_look").json["jobs"][0]["payload"], None, "monitors see no payloads")
        equal(client.get("/jobs?database=nosuch").status, 404, "a database that is not known")


def test_changing_jobs():
    with Program() as program:
        client = program.login("admin")
        body = {"task_identifier": "web_new", "payload": {"big": 12345678901234567890, "exact": 1}, "priority": 3,
                "run_at": "2040-01-01T00:00:00Z", "timeout": 1.5, "headers": {"a": "b"}, "queue_name": "web_q"}
        text = json.dumps(body).replace('"exact": 1', '"exact": 1.10')
        reply = client.call("POST", "/jobs", text, {"Content-Type": "application/json"})
        equal(reply.status, 201, "a job is enqueued")
        job = reply.json["id"]
        equal(value("SELECT payload::text FROM backfill.jobs WHERE id = %s", job),
              '{"big": 12345678901234567890, "exact": 1.10}', "its payload has the client's digits")
        equal(client.get(f"/jobs/{job}").json["job"]["timeout"], 1.5, "its time limit is in seconds")
        reply = client.call("PATCH", f"/jobs/{job}", {"payload": {"a": 2}, "priority": -1})
        equal((reply.status, reply.json.get("payload"), reply.json.get("priority"), reply.json.get("id")),
              (200, {"a": 2}, -1, job), "it is changed")
        reply = client.post(f"/jobs/{job}/reschedule", {"run_at": "2041-01-01", "max_attempts": 2})
        equal((reply.status, reply.json["run_at"][:4]), (200, "2041"), "it is put off")
        equal(client.post(f"/jobs/{job}/run").json["state"], "ready", "it is made ready")
        sql("SELECT backfill.claim_jobs('test', 1, ARRAY['web_new'])")
        for path, method, more in ((f"/jobs/{job}", "PATCH", {"priority": 1}), (f"/jobs/{job}/run", "POST", None),
                                   (f"/jobs/{job}/reschedule", "POST", {"priority": 1})):
            equal(client.call(method, path, more).status, 409, f"{method} {path} does not change a leased job")
        equal(client.post(f"/jobs/{job}/cancel").json, {"cancelled": True}, "it is cancelled")
        equal(client.post(f"/jobs/{job}/cancel").status, 404, "but once")
        for method, path in (("PATCH", ""), ("POST", "/run"), ("POST", "/reschedule"), ("DELETE", "/cancel"), ("DELETE", "")):
            equal(client.call(method, f"/jobs/{job}{path}", {"priority": 1} if method == "PATCH" or "resch" in path else None)
                  .status, 404, f"{method} {path} of a job that is gone")


def test_many_jobs():
    sql("SELECT backfill.enqueue('web_many', jsonb_build_object('n', n % 2), priority => n) FROM generate_series(1, 10) n")
    with Program() as program:
        client = program.login("admin")
        def left():
            return value("SELECT count(*) FROM backfill.jobs WHERE task_identifier = 'web_many'")
        filter = {"task_identifier": "web_many"}
        equal(client.post("/jobs/reschedule", {"filter": filter, "max": 100, "priority": 7}).json,
              {"affected": 10, "more": False}, "all that a filter shows are rescheduled")
        equal(client.post("/jobs/cancel", {"filter": filter, "max": 3}).json, {"affected": 3, "more": True},
              "no more than max are cancelled")
        equal(left(), 7, "the others are left")
        ids = [str(row[0]) for row in sql("SELECT id FROM backfill.jobs WHERE task_identifier = 'web_many' ORDER BY id")]
        equal(client.post("/jobs/cancel", {"ids": ids[:2] + ["999999999"]}).json, {"affected": 2, "more": False},
              "those of a list are cancelled")
        equal(client.post("/jobs/cancel", {"filter": {**filter, "payload": {"n": 5}}}).json["affected"], 0,
              "a filter that nothing passes")
        equal(client.post("/jobs/cancel", {"filter": filter}).json["affected"], 5, "and the rest")
        equal(left(), 0, "nothing is left")


def test_queues():
    with Program() as program:
        client = program.login("admin")
        reply = client.call("PUT", "/queues/web_limits", {"concurrency": 3, "rate_limit": 5, "rate_period": 2.5})
        equal((reply.status, reply.json["concurrency"], reply.json["rate_period"]), (200, 3, 2.5), "limits are set")
        equal(client.post("/queues/web_limits/pause").json["paused"], True, "a queue is paused")
        equal(client.post("/queues/web_limits/resume").json["paused"], False, "and goes on")
        equal(client.call("PUT", "/queues/web_limits", {"concurrency": 0}).status, 400, "a limit that is not possible")
        equal(client.call("DELETE", "/queues/web_limits").status, 204, "limits are forgotten")
        equal(client.call("DELETE", "/queues/web_limits").status, 404, "once")
        sql("SELECT backfill.set_queue('web_full', max_depth => 1)")
        client.post("/jobs", {"task_identifier": "web_full", "queue_name": "web_full"})
        reply = client.post("/jobs", {"task_identifier": "web_full", "queue_name": "web_full"})
        equal((reply.status, reply.json["code"]), (429, "JB001"), "a queue that is full says so")


def test_dead_letters():
    setup()
    with Program() as program:
        client = program.login("admin")
        job, letter = fail_job({"n": 1})
        reply = client.get(f"/dlq/{letter}").json
        equal((reply["id"], reply["original_job_id"], reply["waiting"]), (letter, job, False), "a dead letter")
        listed = client.get("/dlq?task_identifier=web_fails").json["letters"][0]
        equal({k for k in listed} - {k for k in reply}, set(), "it has the fields that the list shows")
        equal(client.get("/dlq?offset=0&limit=1&task_identifier=web_fails").json["letters"][0]["id"], letter, "by offset")
        reply = client.call("PATCH", f"/dlq/{letter}", {"payload": {"n": 2}, "notes": "<script>"})
        equal((reply.status, reply.json["payload"], reply.json["notes"]), (200, {"n": 2}, "<script>"), "it is corrected")
        equal(client.post(f"/dlq/{letter}/requeue", {}).json, {"job_id": job}, "its job runs again")
        equal(client.get(f"/dlq/{letter}").json["waiting"], True, "it says so")
        for method, path in (("GET", ""), ("PATCH", ""), ("POST", "/requeue"), ("DELETE", "")):
            equal(client.call(method, f"/dlq/999999999{path}", {"notes": "x"} if method == "PATCH" else None).status, 404,
                  f"{method} {path} of a letter that is not there")
        coded, without = fail_job({})[1], fail_job({})[1]
        sql("UPDATE backfill.dead_letter SET last_error = last_error || '{\"sqlstate\": \"22012\"}' WHERE id = %s::bigint", coded)
        listed = [letter["id"] for letter in client.get("/dlq?sqlstate=&task_identifier=web_fails").json["letters"]]
        ok(without in listed and coded not in listed, "an empty SQLSTATE shows letters without one only")
        filtered = {"filter": {"sqlstate": "", "task_identifier": "web_fails"}}
        equal(client.post("/dlq/delete", filtered).json["affected"], len(listed), "and as many are deleted by the same filter")
        equal(client.get(f"/dlq/{coded}").status, 200, "the other one stays")
        for path in ("/dlq?queue_name=", "/dlq?queue_name=&offset=0", "/jobs?queue_name="):
            reply = client.get(path)
            equal((reply.status, reply.json.get("letters", reply.json.get("jobs"))), (200, []), f"GET {path} shows those of no queue")
        letters = [fail_job({"n": n})[1] for n in range(5)]
        equal(client.post("/dlq/requeue", {"ids": letters[:2], "notes": "again"}).json["affected"], 2, "two are requeued")
        equal(client.post("/dlq/delete", {"ids": [letters[2]]}).json, {"affected": 1, "more": False}, "one is deleted")
        equal(client.call("DELETE", f"/dlq/{letters[3]}").status, 204, "and another")
        reply = client.post("/dlq/delete", {"filter": {"task_identifier": "web_fails"}, "max": 1})
        equal(reply.json, {"affected": 1, "more": True}, "one of those that a filter shows")
        equal(client.post("/dlq/requeue", {"filter": {"task_identifier": "nosuch"}}).json["affected"], 0, "none of no task")
        equal(client.post("/dlq/cleanup", {}).status, 400, "a clean-up needs a condition")
        ok(client.post("/dlq/cleanup", {"task_identifier": "web_fails", "older_than": 0}).json["deleted"] >= 1, "and cleans")


def test_schedules():
    with Program() as program:
        client = program.login("admin")
        name = "/schedules/every%20five"
        body = {"cron": "*/5 * * * *", "task_identifier": "web_cron", "payload": {"a": [1]}, "time_zone": "Europe/Berlin"}
        reply = client.call("PUT", name, body)
        equal((reply.status, reply.json.get("name"), len(reply.json.get("next_runs", []))), (200, "every five", 5),
              "a schedule is made")
        reply = client.post(name + "/run")
        equal(reply.status, 201, "its job is enqueued now")
        equal(value("SELECT payload FROM backfill.jobs WHERE id = %s", reply.json["id"]), {"a": [1]}, "with its payload")
        equal(client.call("PUT", name, {**body, "cron": "nonsense"}).status, 400, "a wrong expression is refused")
        equal(client.get("/cron/next?cron=0+12+*+*+*&count=3&time_zone=Asia/Tokyo").json["next"][0][11:13], "03",
              "a preview in a zone")
        equal(client.get("/cron/next?cron=x").status, 400, "and none of nonsense")
        equal(client.get("/cron/next").status, 400, "or nothing")
        equal(client.call("DELETE", name).status, 204, "it is removed")
        equal([client.call("DELETE", name).status, client.post(name + "/run").status], [404, 404], "once")
        sql("SELECT backfill.register_task('web_task')")
        equal([client.call("DELETE", "/tasks/web_task").status, client.call("DELETE", "/tasks/web_task").status],
              [204, 404], "a task is unregistered once")


def test_change_that_cannot_be_shown():
    """A role that may change a queue, but not look at it, is told that the change is done."""
    sql("CREATE ROLE web_pauser LOGIN PASSWORD 'web_pauser'")
    sql("GRANT USAGE ON SCHEMA backfill TO web_pauser")
    sql("GRANT EXECUTE ON FUNCTION backfill.pause_queue(text), backfill.resume_queue(text) TO web_pauser")
    sql("SELECT backfill.set_queue('web_paused', concurrency => 1)")
    with Program() as program:
        client = program.login("web_pauser")
        ok(client.login.json["rights"]["queues.pause"], "it is offered to the role")
        reply = client.post("/queues/web_paused/pause")
        equal((reply.status, reply.json), (200, {}), "the answer is a success without the queue")
        equal(value("SELECT paused FROM backfill.queues WHERE queue_name = 'web_paused'"), True, "the queue is paused")
        equal(client.get("/queues/web_paused").status, 403, "which the role may not see")
    sql("DROP OWNED BY web_pauser")
    sql("DROP ROLE web_pauser")


def test_time_of_statements():
    """Calls that act on many objects have more time than others, by what --statement-timeout says."""
    sql("CREATE TABLE public.web_time (statement_timeout text)")
    sql("CREATE FUNCTION public.web_note_time() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN "
        "INSERT INTO public.web_time VALUES (current_setting('statement_timeout')); RETURN old; END $$")
    sql("CREATE TRIGGER web_note_time BEFORE DELETE ON backfill.dead_letter FOR EACH ROW EXECUTE FUNCTION public.web_note_time()")
    letters = [fail_job({})[1] for _ in range(3)]
    with Program("--statement-timeout", "10") as program:
        client = program.login("admin")
        client.call("DELETE", f"/dlq/{letters[0]}")
        equal(client.post("/dlq/delete", {"ids": [letters[1]]}).json["affected"], 1, "a letter is deleted as one of many")
        client.call("DELETE", f"/dlq/{letters[2]}")
    equal(sql("SELECT * FROM public.web_time"), [("10s",), ("2min",), ("10s",)], "with twelve times as much time, and only then")
    sql("DROP TRIGGER web_note_time ON backfill.dead_letter")
    sql("DROP FUNCTION public.web_note_time")
    sql("DROP TABLE public.web_time")


def test_events():
    with Program() as program:
        client = program.login("monitor")
        events = client.events()
        equal((events.status, events.next()[0]), (200, "backlog"), "the last hour comes first")
        name, first = events.next("sample")
        sql("SELECT backfill.enqueue('web_events') FROM generate_series(1, 5)")
        ok(first["rates"]["enqueued"] is None and "bands" in first, "a sample is an overview; one alone has no rates")
        until(lambda: (events.next("sample")[1]["rates"]["enqueued"] or 0) > 0, "the rate of what was enqueued")
        equal(events.next("health")[1]["status"] in ("ok", "warning", "critical"), True, "health comes, too")
        others = [client.events() for _ in range(20)] + [program.login("admin").events()]
        ok(len(others[0].next("backlog")[1]["points"]) >= 2, "a later listener gets what was")
        for each in others:
            each.next("sample")
        until(lambda: web_connections() <= 3, "21 listeners have the connections of a few")
        before = others[0].next("sample")[1]["at"]
        calls = "SELECT calls FROM pg_stat_user_functions WHERE funcname = 'overview'"
        for each in others + [events]:
            each.close()
        until(lambda: web_connections() == 0, "with no listener the database is left alone")
        ok(before is not None, "samples came until then")


if __name__ == "__main__":
    run(globals())

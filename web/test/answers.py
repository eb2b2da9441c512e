"""What each route that reads answers, against what SQL returns: with each of its parameters, page by page."""

import json
import urllib.parse

from harness import *

# Routes that ask no function of the database for what they answer; other tests look at them.
OWN = {"openapi", "session", "stream"}

# A path, its query, and the SQL with the same meaning. {job}, {letter}, {moment}: see make_objects(); {next}: that of the
# answer before. In SQL they are parameters.
READS = [
    ("/jobs", {}, "SELECT backfill.list_jobs()"),
    ("/jobs", {"task_identifier": "a_job"}, "SELECT backfill.list_jobs(task_identifier => 'a_job')"),
    ("/jobs", {"queue_name": "a queue/ä"}, "SELECT backfill.list_jobs(queue_name => 'a queue/ä')"),
    ("/jobs", {"job_key": "a key"}, "SELECT backfill.list_jobs(job_key => 'a key')"),
    ("/jobs", {"state": "scheduled"}, "SELECT backfill.list_jobs(state => 'scheduled')"),
    ("/jobs", {"state": "leased"}, "SELECT backfill.list_jobs(state => 'leased')"),
    ("/jobs", {"min_priority": "3", "max_priority": "5"}, "SELECT backfill.list_jobs(min_priority => 3, max_priority => 5)"),
    ("/jobs", {"payload": '{"n": 7}'}, """SELECT backfill.list_jobs(payload => '{"n": 7}')"""),
    ("/jobs", {"limit": "5"}, 'SELECT backfill.list_jobs("limit" => 5)'),
    ("/jobs", {"limit": "5", "cursor": "{next}"}, 'SELECT backfill.list_jobs("limit" => 5, cursor => %(next)s)'),
    ("/jobs", {"id": "{job}"}, "SELECT jsonb_build_object('jobs', jsonb_build_array(backfill.job_details(%(job)s) -> 'job'), 'next', NULL, "
                               "'cut_off', false, 'total', jsonb_build_object('count', 1, 'capped', false))"),
    ("/jobs/{job}", {}, "SELECT backfill.job_details(%(job)s)"),
    ("/jobs/{dead}", {}, "SELECT backfill.job_details(%(dead)s)"),
    ("/jobs/{done}", {}, "SELECT backfill.job_details(%(done)s)"),
    ("/queues", {}, "SELECT backfill.list_queues()"),
    ("/queues", {"search": "ä"}, "SELECT backfill.list_queues(search => 'ä')"),
    ("/queues", {"limit": "1"}, 'SELECT backfill.list_queues("limit" => 1)'),
    ("/queues", {"limit": "1", "cursor": "{next}"}, 'SELECT backfill.list_queues("limit" => 1, cursor => %(next)s)'),
    ("/queues/a%20queue%2F%C3%A4", {}, "SELECT backfill.queue_details('a queue/ä')"),
    ("/queues/a%20queue%2F%C3%A4/stats", {}, "SELECT backfill.queue_details('a queue/ä')"),
    ("/dlq", {}, "SELECT backfill.list_dlq()"),
    ("/dlq", {"task_identifier": "b_job"}, "SELECT backfill.list_dlq(task_identifier => 'b_job')"),
    ("/dlq", {"queue_name": "dead"}, "SELECT backfill.list_dlq(queue_name => 'dead')"),
    ("/dlq", {"sqlstate": "22012"}, "SELECT backfill.list_dlq(sqlstate => '22012')"),
    ("/dlq", {"failed_after": "{moment}"}, "SELECT backfill.list_dlq(failed_after => %(moment)s)"),
    ("/dlq", {"failed_before": "{moment}"}, "SELECT backfill.list_dlq(failed_before => %(moment)s)"),
    ("/dlq", {"job_key": "a dead key"}, "SELECT backfill.list_dlq(job_key => 'a dead key')"),
    ("/dlq", {"search": "later"}, "SELECT backfill.list_dlq(search => 'later')"),
    ("/dlq", {"limit": "2"}, 'SELECT backfill.list_dlq("limit" => 2)'),
    ("/dlq", {"limit": "2", "cursor": "{next}"}, 'SELECT backfill.list_dlq("limit" => 2, cursor => %(next)s)'),
    ("/dlq/groups", {}, "SELECT backfill.dlq_groups()"),
    ("/dlq/groups", {"failed_after": "{moment}"}, "SELECT backfill.dlq_groups(failed_after => %(moment)s)"),
    ("/dlq/groups", {"failed_before": "{moment}"}, "SELECT backfill.dlq_groups(failed_before => %(moment)s)"),
    ("/dlq/stats", {}, "SELECT to_jsonb(s) FROM backfill.dlq_stats() s"),
    ("/tasks", {}, "SELECT backfill.list_tasks()"),
    ("/tasks", {"search": "b_"}, "SELECT backfill.list_tasks(search => 'b_')"),
    ("/tasks", {"problem_only": "true"}, "SELECT backfill.list_tasks(problem_only => true)"),
    ("/tasks", {"limit": "1"}, 'SELECT backfill.list_tasks("limit" => 1)'),
    ("/tasks", {"limit": "1", "cursor": "{next}"}, 'SELECT backfill.list_tasks("limit" => 1, cursor => %(next)s)'),
    ("/history", {}, "SELECT backfill.list_history()"),
    ("/history", {"task_identifier": "a_job"}, "SELECT backfill.list_history(task_identifier => 'a_job')"),
    ("/history", {"queue_name": "a queue/ä"}, "SELECT backfill.list_history(queue_name => 'a queue/ä')"),
    ("/history", {"outcome": "completed"}, "SELECT backfill.list_history(outcome => 'completed')"),
    ("/history", {"job_key": "a done key"}, "SELECT backfill.list_history(job_key => 'a done key')"),
    ("/history", {"finished_after": "{moment}"}, "SELECT backfill.list_history(finished_after => %(moment)s)"),
    ("/history", {"finished_before": "{moment}"}, "SELECT backfill.list_history(finished_before => %(moment)s)"),
    ("/history", {"limit": "1"}, 'SELECT backfill.list_history("limit" => 1)'),
    ("/history", {"limit": "1", "cursor": "{next}"}, 'SELECT backfill.list_history("limit" => 1, cursor => %(next)s)'),
    ("/audit", {}, "SELECT backfill.list_audit()"),
    ("/audit", {"actor": "postgres"}, "SELECT backfill.list_audit(actor => 'postgres')"),
    ("/audit", {"action": "set_queue"}, "SELECT backfill.list_audit(action => 'set_queue')"),
    ("/audit", {"object": "a queue/ä"}, "SELECT backfill.list_audit(object => 'a queue/ä')"),
    ("/audit", {"after": "{moment}"}, "SELECT backfill.list_audit(after => %(moment)s)"),
    ("/audit", {"before": "{moment}"}, "SELECT backfill.list_audit(before => %(moment)s)"),
    ("/audit", {"limit": "3"}, 'SELECT backfill.list_audit("limit" => 3)'),
    ("/audit", {"limit": "3", "cursor": "{next}"}, 'SELECT backfill.list_audit("limit" => 3, cursor => %(next)s)'),
    ("/schedules", {}, "SELECT backfill.list_schedules()"),
    ("/cron/next", {"cron": "*/7 3 * * *"}, "SELECT jsonb_build_object('next', jsonb_agg(at ORDER BY at)) FROM cron_times('*/7 3 * * *', 'UTC', 5) at"),
    ("/cron/next", {"cron": "30 2 * * *", "time_zone": "Europe/Berlin", "count": "3"},
     "SELECT jsonb_build_object('next', jsonb_agg(at ORDER BY at)) FROM cron_times('30 2 * * *', 'Europe/Berlin', 3) at"),
    ("/workers", {}, "SELECT jsonb_build_object('workers', jsonb_agg(to_jsonb(w) || jsonb_build_object('job_id', w.job_id::text, 'jobs_done', "
                     "w.jobs_done::text, 'jobs_failed', w.jobs_failed::text) ORDER BY w.kind, w.started_at, w.pid)) FROM backfill.workers w"),
    ("/retry-policies", {}, "SELECT jsonb_build_object('retry_policies', jsonb_agg(to_jsonb(p) || jsonb_build_object('initial_delay', "
                            "extract(epoch FROM p.initial_delay), 'max_delay', extract(epoch FROM p.max_delay)) ORDER BY p.policy_name)) "
                            "FROM backfill.retry_policies p"),
    ("/overview", {}, "SELECT backfill.overview()"),
    ("/status", {}, "SELECT backfill.overview()"),
    ("/health", {}, "SELECT jsonb_build_object('checks', jsonb_agg(jsonb_build_object('check', h.check_name, 'status', h.status, "
                    "'detail', h.detail, 'hint', h.hint))) FROM backfill.health() h"),
]
# What is of the moment, or is made by the program of the rest.
VOLATILE = {"/overview": {"at", "oldest_ready_age"}, "/status": {"at", "oldest_ready_age"}, "/health": {"status"}}


def make_objects():
    """Jobs in each state, letters of several causes before and after a moment, and the rest."""
    with connect() as connection:
        def call(statement, *values):
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []
        call("SET client_min_messages = error")
        call("CREATE FUNCTION cron_times(cron text, zone text, n integer) RETURNS SETOF timestamptz LANGUAGE plpgsql AS $$"
             "DECLARE at timestamptz := backfill.cron_next(cron, zone); BEGIN "
             "FOR i IN 1 .. n LOOP RETURN NEXT at; at := backfill.cron_next(cron, zone, at); END LOOP; END $$")
        for task in ("a_job", "b_job", "c_done"):
            call("SELECT backfill.register_task(%s, keep_history => '1 day')", task)
        call("SELECT backfill.set_queue('a queue/ä', concurrency => 2, rate_limit => 5, rate_period => '1 minute')")
        call("SELECT backfill.set_queue('b', max_depth => 1000)")
        call("SELECT backfill.pause_queue('b')")
        call("SELECT backfill.schedule('an hour', '0 * * * *', 'a_job', payload => '{\"a\": [1]}', time_zone => 'Europe/Berlin')")
        call("SELECT backfill.set_retry_policy('own', max_attempts => 3, initial_delay => '1.5 seconds')")
        jobs = [row[0] for row in call("SELECT backfill.enqueue('a_job', jsonb_build_object('n', n, 'big', 12345678901234567890), priority => n) "
                                       "FROM generate_series(1, 12) n")]
        call("SELECT backfill.enqueue('a_job', job_key => 'a key', queue_name => 'a queue/ä')")
        call("SELECT backfill.enqueue('unknown', run_at => now() + interval '1 day')")
        call("SELECT backfill.enqueue('b_job', queue_name => 'b') FROM generate_series(1, 3)")

        def finish(task, **more):
            job = call("SELECT backfill.enqueue(%s, job_key => %s, queue_name => %s, priority => -100)", task, more.get("key"), more.get("queue"))[0][0]
            token = call("SELECT claim_token FROM backfill.claim_jobs('answers', 1, ARRAY[%s])", task)[0][0]
            if "error" in more:
                call("SELECT backfill.fail_job(%s::bigint, %s, %s, permanent => true)", job, token, more["error"])
            else:
                call("SELECT backfill.complete_jobs(ARRAY[%s::bigint], %s)", job, token)
            return job
        call("CREATE FUNCTION public.divide(payload jsonb) RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM 1 / (payload ->> ''by'')::integer; END'")
        call("SELECT backfill.register_task('d_divide', 'public.divide(jsonb)', max_attempts => 1)")
        call("SELECT backfill.enqueue('d_divide', '{\"by\": 0}')")
        call("CALL backfill.process_available_jobs()")
        dead = finish("b_job", error="at once", key="a dead key", queue="dead")
        done = finish("c_done", key="a done key")
        finish("a_job", queue="a queue/ä")
        moment = call("SELECT clock_timestamp()::text")[0][0]
        for number in range(4):
            finish("b_job" if number % 2 else "a_job", error=f"later {number}")
        finish("c_done")
        call("SELECT backfill.resume_queue('b')")
        call("SELECT backfill.claim_jobs('answers', 2, '{a_job}', lease => '1 hour')")
        letter = call("SELECT min(id) FROM backfill.dlq")[0][0]
    return {"job": str(jobs[3]), "dead": str(dead), "done": str(done), "letter": str(letter), "moment": moment}


def by_sql(statement, values):
    with connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET ROLE admin")
        return connection.execute(statement.replace("cron_times(", "public.cron_times("), values).fetchone()[0]


def test_answers():
    objects = make_objects()
    seen = set()
    with Program() as program:
        client = program.login("admin")
        answer = {}
        for path, query, statement in READS:
            objects["next"] = answer["next"] if isinstance(answer.get("next"), str) else ""
            place = path.format(**objects)
            filled = {name: each.replace("{next}", objects["next"]).replace("{moment}", objects["moment"]).replace("{job}", objects["job"])
                      for name, each in query.items()}
            if "cursor" in query:
                ok(objects["next"], f"{path} has a page after the first")
            reply = client.get(place + ("?" + urllib.parse.urlencode(filled) if filled else ""))
            answer = reply.json
            wanted = by_sql(statement, objects)
            for field in VOLATILE.get(path, ()):
                answer.pop(field, None)
                wanted.pop(field, None)
            equal(answer, wanted, f"GET {place} {filled}: what SQL says")
            seen |= {(path, name) for name in query} | {(path, None)}
            rows = next((each for each in answer.values() if isinstance(each, list)), None)
            ok(reply.status == 200 and rows != [], f"GET {place} {filled}: it is not empty")
        letter = client.get(f"/dlq/{objects['letter']}").json
        listed = next(each for each in client.get("/dlq").json["letters"] if each["id"] == objects["letter"])
        equal({name: letter[name] for name in listed}, listed, "GET /dlq/ID: a letter as the list has it")
        equal(by_sql("SELECT payload FROM backfill.dlq WHERE id = %(letter)s", objects), letter["payload"], "and its payload")
        letters = client.get("/dlq").json["letters"]
        equal(client.get("/dlq?offset=1&limit=3").json["letters"], letters[1:4], "GET /dlq with an offset: the list from there")
        seen |= {("/dlq/{letter}", None), ("/dlq", "offset")}
        description = program.request("GET", "/api/v1/openapi.json").json
    example = {"/jobs/{id}": "/jobs/{job}", "/dlq/{id}": "/dlq/{letter}", "/queues/{name}": "/queues/a%20queue%2F%C3%A4",
               "/queues/{name}/stats": "/queues/a%20queue%2F%C3%A4/stats"}
    missing = set()
    for path, methods in description["paths"].items():
        if "get" not in methods or methods["get"]["x-backfill-route"] in OWN:
            continue
        place = path.removeprefix("/api/v1")
        place = example.get(place, place)
        names = [each["name"] for each in methods["get"].get("parameters", []) if each.get("in") == "query"]
        missing |= {(place, name) for name in [*names, None]} - seen
    equal(missing, set(), "every route that reads, and every parameter, was compared")


if __name__ == "__main__":
    run(globals())

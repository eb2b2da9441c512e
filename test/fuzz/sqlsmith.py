"""Has sqlsmith read the extension's tables and views and call its functions, in queries that it makes
up, as the owner and as an admin, beside working executors and jobs that are enqueued.

What must hold: no crash, no internal error of a query that names something of the extension;
afterwards storage, views and an ordinary job are in order. Errors of a query are wanted: sqlsmith's
queries are of the right types, and of nothing else.
"""

import os
import re
import subprocess
import tempfile
import time

import fuzz

SET_UP = """
    CREATE EXTENSION backfill;
    CREATE ROLE smith_admin LOGIN;
    SELECT backfill.grant_admin('smith_admin'), backfill.grant_producer('smith_admin'), backfill.grant_consumer('smith_admin');
    CREATE SCHEMA fuzz; GRANT USAGE ON SCHEMA fuzz TO PUBLIC;
    CREATE FUNCTION fuzz.plain(payload jsonb) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
    CREATE FUNCTION fuzz.fail(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'failed: %', payload; END $$;
    SELECT backfill.set_retry_policy('p_fuzz', 3, '1 ms', '2 ms');
    SELECT backfill.register_task('t_plain', 'fuzz.plain(jsonb)', keep_history => '1 hour'),
           backfill.register_task('t_fail', 'fuzz.fail(jsonb)', retry_policy => 'p_fuzz', keep_history => '1 hour'),
           backfill.register_task('t_external')
"""

# Something to be found in every table, also after a call has changed what tasks and queues there are.
ROUND = """
    SELECT backfill.set_retry_policy('p_fuzz', 3, '1 ms', '2 ms');
    SELECT backfill.register_task('t_plain', 'fuzz.plain(jsonb)', keep_history => '1 hour'),
           backfill.register_task('t_fail', 'fuzz.fail(jsonb)', retry_policy => 'p_fuzz', keep_history => '1 hour'),
           backfill.register_task('t_external');
    SELECT backfill.enqueue('t_plain', '{"n": 1}'), backfill.enqueue('t_fail'), backfill.enqueue('t_external'),
           backfill.enqueue('t_plain', run_at => now() + '1 hour', job_key => 'k'), backfill.enqueue_serial('t_plain', 'q');
    SELECT * FROM backfill.claim_jobs('smith', tasks => '{t_external}', max_jobs => 2, lease => '2 s');
    DELETE FROM backfill.job WHERE id IN (SELECT id FROM backfill.job ORDER BY id DESC OFFSET 2000);
    DELETE FROM backfill.dead_letter WHERE id IN (SELECT id FROM backfill.dead_letter ORDER BY id DESC OFFSET 300)
"""

# An entry of the log: its first line, then lines that begin with a tab, or say more of the same process.
MORE = re.compile(r"(DETAIL|HINT|CONTEXT|LOCATION|STATEMENT|QUERY):  ")
# What PostgreSQL says of a query that it does not understand, or of its own functions that no session should call.
PARSER = re.compile(r"LOCATION:  \w+, parse_\w+\.c:")
RAISED_BY = re.compile(r"LOCATION:  (\w+), \w+\.c:")
UNCALLABLE = {"SetNextObjectId": "pg_stop_making_pinned_objects", "intervaltypmodleastfield": "interval"}
CALLED = re.compile(r"backfill\.(\w+)\(")


class Smith:
    """sqlsmith as a role; it goes on when its connection is lost."""

    def __init__(self, role, seed):
        target = (f"dbname=postgres user={role} application_name=sqlsmith"
                  " options='-c statement_timeout=5s -c lock_timeout=2s -c search_path=backfill,pg_catalog'")
        self.role = role
        self.said = tempfile.TemporaryFile()  # a pipe that is not read would stop it
        self.process = subprocess.Popen(["sqlsmith", "--exclude-catalog", "--verbose", f"--seed={seed}", f"--target={target}"],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.said)

    def end(self):
        """Returns how many queries it has counted."""
        self.process.terminate()
        self.process.wait()
        self.said.seek(0)
        counts = re.findall(rb"queries: (\d+)", self.said.read())
        return int(counts[-1]) if counts else 0


def entries_of(path):
    with open(path, encoding="utf-8", errors="replace") as log:
        entries = []
        for line in log:
            if entries and (line.startswith("\t") or MORE.search(line)):
                entries[-1] += line
            else:
                entries.append(line)
    return entries


def is_postgres_own(entry):
    """An internal error that has nothing to do with the extension."""
    if "XX000" not in entry:
        return False
    raised_by = RAISED_BY.search(entry)
    function = raised_by and UNCALLABLE.get(raised_by[1], raised_by[1])
    return "backfill" not in entry or PARSER.search(entry) or (function and f"pg_catalog.{function}(" in entry)


def internal_errors(entries):
    """Each once, without the numbers in it: the message, and the whole entry."""
    return {re.sub(r"\d+", "N", entry.split("ERROR:  ", 1)[-1].split("\n")[0]): entry[:3000] for entry in entries
            if fuzz.FATAL_LOG.search(entry) and not is_postgres_own(entry)}


def main():
    options = fuzz.arguments(__doc__)
    report = fuzz.Report()
    owner = fuzz.Session()
    owner.query(SET_UP)
    until = time.monotonic() + options.seconds
    smiths = [Smith(os.environ["PGUSER"], options.seed), Smith("smith_admin", options.seed + 1)]
    early = []
    while time.monotonic() < until and not early:
        try:
            owner.run(ROUND)
        except fuzz.Lost:
            pass  # sqlsmith has called pg_terminate_backend()
        early = [smith.role for smith in smiths if smith.process.poll() is not None]
        time.sleep(0.5)
    queries = {smith.role: smith.end() for smith in smiths}
    for role, count in queries.items():
        print(f"# {role}: {count} queries")
    report.test(not early, "sqlsmith ran for all of the time", f"ended: {early}")
    report.test(min(queries.values()) > options.seconds, "and did not stand still")
    fuzz.check_readable(report, owner)
    fuzz.check_ordinary_job(report, owner)
    fuzz.check_storage(report, owner)
    entries = entries_of(options.log)
    print(f"# functions in queries that failed: {len({name for entry in entries for name in CALLED.findall(entry)})}")
    bad = internal_errors(entries)
    report.test(not bad, "the server's log holds no crash, sanitizer report or internal error of the extension",
                "\n".join(bad) + "\n----\n" + "\n----\n".join(list(bad.values())[:5]))
    report.end()


main()

#!/usr/bin/python3
"""Clients that enqueue and consume jobs while servers fail, and a ledger of what they were told.

  load.py producer NAME CONNINFO DIRECTORY   enqueues until SIGTERM
  load.py consumer NAME CONNINFO DIRECTORY   claims and completes until SIGTERM
  load.py check CONNINFO DIRECTORY [LOST]    prints the ledger; fails if it does not balance. The file LOST has
                                             what clients had been told and an asynchronous standby had not:
                                             lines of "enqueued TOKEN" and "completed TOKEN CLAIM"

CONNINFO names all servers and target_session_attrs=read-write. A client writes what it knows into
DIRECTORY/NAME, a line each: the time, what happened, to which token. It behaves as a client should: when
the connection goes while it commits, it is in doubt, connects again, looks, and repeats what is not there.
"""
import os
import signal
import sys
import time

import psycopg

LEASE = "3 seconds"
PAUSE = 0.004  # between two transactions of a client: the load is steady, not what the machine can bear

# The connection is gone, or leads to a server that is no primary any more.
GONE = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction, psycopg.InterfaceError)

stopping = False


def stop(*_):
    global stopping
    stopping = True


class Client:
    def __init__(self, name, conninfo, directory):
        self.name = name
        self.conninfo = conninfo
        self.connection = None
        self.directory = directory
        self.unconfirmed = False
        self.ledger = open(os.path.join(directory, name), "a", buffering=1)

    def note(self, what, token="-", *more):
        print(f"{time.time():.3f}", what, token, *more, file=self.ledger)

    def connect(self):
        while self.connection is None:
            try:
                self.connection = psycopg.connect(self.conninfo, autocommit=True, connect_timeout=10)
                self.connection.add_notice_handler(self.hear)
            except psycopg.OperationalError:
                if not os.path.isdir(self.directory):
                    sys.exit("the test that started this client has ended")
                time.sleep(0.05)
        return self.connection

    def hear(self, notice):
        """A server that gives up its wait for a standby commits nevertheless, and says so here only."""
        self.unconfirmed = "synchronous replication" in notice.message_primary

    def drop(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def transact(self, work, token):
        """Commit work() once. It is told whether an earlier try may have been committed."""
        doubt = False
        while True:
            committing = False
            try:
                connection = self.connect()
                connection.execute("BEGIN")
                result = work(connection, doubt)
                committing = True
                self.unconfirmed = False
                connection.execute("COMMIT")
                if self.unconfirmed:
                    self.note("unconfirmed", token)
                return result
            except GONE:
                self.drop()
                self.note("doubt" if committing else "broken", token)
                doubt = doubt or committing
            except psycopg.errors.UniqueViolation:  # the earlier try, committed meanwhile
                connection.execute("ROLLBACK")


class Producer(Client):
    # How a job of each kind is enqueued. Jobs of "replace" share a key: the later replaces one that waits.
    KINDS = {
        "plain": "backfill.enqueue('work', %(payload)s)",
        "keyed": "backfill.enqueue('work', %(payload)s, job_key => %(key)s)",
        "replace": "backfill.enqueue('work', %(payload)s, job_key => %(key)s,"
                   " run_at => now() + interval '200 ms', job_key_mode => 'preserve_run_at')",
        "serial": "backfill.enqueue_serial('work', %(payload)s, 'serial')",
        "narrow": "backfill.enqueue('work', %(payload)s, queue_name => 'narrow')",
        "outside": "backfill.enqueue('outside', %(payload)s)",
        "outside-keyed": "backfill.enqueue('outside', %(payload)s, job_key => %(key)s)",
    }

    def enqueue(self, token, kind):
        key = self.name if kind == "replace" else token if "keyed" in kind else None
        row = {"token": token, "kind": kind, "key": key, "payload": f'{{"token": "{token}"}}'}

        def work(connection, doubt):
            if doubt and connection.execute("SELECT FROM intended WHERE token = %s", (token,)).rowcount:
                return "found"
            connection.execute(
                "INSERT INTO intended (token, kind, job_key, job_id)"
                f" VALUES (%(token)s, %(kind)s, %(key)s, {self.KINDS[kind]})", row)
            return "repeated" if doubt else "enqueued"

        self.note(self.transact(work, token), token, kind)

    def run(self):
        kinds = list(self.KINDS)
        number = 0
        while not stopping:
            number += 1
            self.enqueue(f"{self.name}-{number:06}", kinds[number % len(kinds)])
            time.sleep(PAUSE)


class Consumer(Client):
    def claim(self):
        try:
            return self.connect().execute(
                "SELECT id, payload->>'token', claim_token"
                " FROM backfill.claim_jobs(%s, 5, '{outside}', lease => %s)", (self.name, LEASE)).fetchall()
        except GONE:
            self.drop()
            self.note("claim-broken")  # if it was committed, its lease runs out
            return []

    def complete(self, jobs, claim):
        tokens = {id: token for id, token in jobs}

        def work(connection, doubt):
            if doubt:
                found = connection.execute("SELECT token FROM completion WHERE claim = %s", (claim,)).fetchall()
                if found:
                    return [token for token, in found], "found"
            done = connection.execute("SELECT backfill.complete_jobs(%s, %s)", (list(tokens), claim)).fetchall()
            done = [tokens[id] for id, in done]
            for token in done:
                connection.execute("INSERT INTO completion (token, claim) VALUES (%s, %s)", (token, claim))
            return done, "repeated" if doubt else ""

        done, how = self.transact(work, claim)
        for token in tokens.values():
            self.note("completed" if token in done else "refused", token, claim, how)

    def run(self):
        turn = 0
        while not stopping:
            jobs = self.claim()
            for id, token, claim in jobs:
                self.note("ran", token, claim, id)
            turn += 1
            if jobs:
                claim = jobs[0][2]
                done = [(id, token) for id, token, _ in jobs]
                if turn % 20 == 0:
                    id, token = done.pop(0)
                    outcome = self.transact(lambda connection, doubt: connection.execute(
                        "SELECT backfill.fail_job(%s, %s, 'connection reset')", (id, claim)).fetchone()[0], claim)
                    self.note("failed", token, claim, outcome)
                if done:
                    self.complete(done, claim)
            time.sleep(PAUSE)


def read_ledger(directory):
    for name in sorted(os.listdir(directory)):
        with open(os.path.join(directory, name)) as lines:
            for line in lines:
                at, what, token, *more = line.split()
                yield float(at), what, token, more


def count(database, query):
    return database.execute(query).fetchone()[0]


def check(conninfo, directory, lost_file=os.devnull):
    """Compare what the clients were told with what is in the tables."""
    events = list(read_ledger(directory))
    with open(lost_file) as lines:
        lost = {tuple(line.split()) for line in lines}
    told = {}
    for _, what, *_ in events:
        told[what] = told.get(what, 0) + 1
    enqueued = sorted((at, token) for at, what, token, _ in events if what in ("enqueued", "found", "repeated"))
    acknowledged = [token for _, token in enqueued if ("enqueued", token) not in lost]
    completed = [token for _, what, token, more in events if what == "completed" and (what, token, more[0]) not in lost]
    wrong = 0

    def line(text, *faults):
        nonlocal wrong
        print(text + "".join(f", {number} {name}" for number, name in faults))
        wrong += sum(number for number, _ in faults)

    with psycopg.connect(conninfo) as database:
        database.execute("CREATE TEMP TABLE acknowledged (token text); CREATE TEMP TABLE completed (token text)")
        with database.cursor().copy("COPY acknowledged FROM STDIN") as copy:
            for token in acknowledged:
                copy.write_row((token,))
        with database.cursor().copy("COPY completed FROM STDIN") as copy:
            for token in completed:
                copy.write_row((token,))

        if lost:
            print(f"known to be lost: {sum(what == 'enqueued' for what, *_ in lost)} enqueues,"
                  f" {sum(what == 'completed' for what, *_ in lost)} completions")
        line(f"enqueues: {len(acknowledged)} acknowledged; {told.get('doubt', 0)} commits were in doubt:"
             f" {told.get('found', 0)} enqueues were there, {told.get('repeated', 0)} were repeated;"
             f" {told.get('broken', 0)} transactions broke before their commit",
             (count(database, "SELECT count(*) FROM (SELECT token FROM acknowledged EXCEPT SELECT token FROM intended) x"), "lost"),
             (count(database, "SELECT count(*) FROM (SELECT token FROM intended EXCEPT SELECT token FROM acknowledged) x"), "not acknowledged in the end"))
        line(f"SQL jobs: {count(database, 'SELECT count(*) FROM effect')} ran,"
             f" {count(database, 'SELECT count(*) FROM effect WHERE attempt > 1')} of them after a failed run;"
             f" {count(database, REPLACED)} were replaced by later ones with their keys",
             (count(database, MISSING_EFFECT), "lost"),
             (count(database, "SELECT count(*) FROM (SELECT FROM effect GROUP BY token HAVING count(*) > 1) x"), "ran twice"),
             (count(database, "SELECT count(*) FROM effect e WHERE NOT EXISTS (SELECT FROM intended i WHERE i.token = e.token)"), "ran without an enqueue"))
        line(f"jobs of consumers: {told.get('ran', 0)} runs, {told.get('failed', 0)} of them failed, {told.get('refused', 0)} completions refused;"
             f" {count(database, 'SELECT count(*) FROM completion')} completed",
             (count(database, "SELECT count(*) FROM (SELECT token FROM intended WHERE kind ~ 'outside' EXCEPT SELECT token FROM completion) x"), "lost"),
             (count(database, "SELECT count(*) FROM (SELECT token FROM completed EXCEPT ALL SELECT token FROM completion) x"), "acknowledged completions lost"),
             (count(database, "SELECT count(*) FROM (SELECT FROM completion GROUP BY token HAVING count(*) > 1) x"), "completed twice"))
        line(f"left: {count(database, 'SELECT count(*) FROM backfill.job')} jobs",
             (count(database, "SELECT count(*) FROM backfill.dead_letter"), "dead letters"),
             (told.get("unconfirmed", 0), "commits that no standby has confirmed"))
    gaps = sorted((after - before for (before, _), (after, _) in zip(enqueued, enqueued[1:])), reverse=True)
    print("longest times without an acknowledged enqueue: " + ", ".join(f"{gap:.1f} s" for gap in gaps[:6]))
    return wrong == 0 and len(acknowledged) > 0


# A job of "replace" need not run if a later one has its key: the last one of each key has to.
REPLACED = """SELECT count(*) FROM intended i WHERE kind = 'replace' AND NOT EXISTS (SELECT FROM effect e WHERE e.token = i.token)"""
MISSING_EFFECT = """
SELECT count(*) FROM intended i
 WHERE kind !~ 'outside' AND NOT EXISTS (SELECT FROM effect e WHERE e.token = i.token)
   AND NOT (kind = 'replace' AND EXISTS (SELECT FROM intended l WHERE l.kind = 'replace' AND l.job_key = i.job_key AND l.token > i.token))
"""


def main():
    if sys.argv[1] == "check":
        return 0 if check(*sys.argv[2:]) else 1
    signal.signal(signal.SIGTERM, stop)
    {"producer": Producer, "consumer": Consumer}[sys.argv[1]](*sys.argv[2:]).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())

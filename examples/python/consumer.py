#!/usr/bin/env python3
"""A consumer of backfill jobs in Python, with psycopg 3 and asyncio.

It claims up to CONCURRENCY jobs at a time, keeps their leases while they run, and stores each
result in the transaction that completes the job. Where the server is, libpq's variables say
(PGHOST, PGDATABASE, ...). SIGTERM or SIGINT ends it: it claims no more, gives running jobs GRACE
seconds to end, and hands back the rest. See ../README.md.
"""
import asyncio
import logging
import os
import signal
import socket
import sys
import time
from datetime import timedelta

import psycopg
from psycopg.rows import namedtuple_row

WORKER = os.environ.get("WORKER", f"{socket.gethostname()}-{os.getpid()}")
CONCURRENCY = int(os.environ.get("CONCURRENCY", "4"))
LEASE = float(os.environ.get("LEASE", "60"))  # seconds, like all that follow
GRACE = float(os.environ.get("GRACE", "20"))
FALLBACK = float(os.environ.get("FALLBACK", "30"))  # claims at least so often, notified or not

log = logging.getLogger(WORKER)


# --- The work: replace this with your own. ------------------------------------------------------


class Permanent(Exception):
    """The job can never succeed."""


class Later(Exception):
    """The job should be tried again after some seconds; this costs no attempt."""

    def __init__(self, seconds):
        super().__init__(f"{seconds:.1f} s")
        self.seconds = seconds


async def pretend(job):
    """Behave as the payload says, in place of an outside service. Blocking code belongs into
    asyncio.to_thread()."""
    if not isinstance(job.payload, dict):
        raise Permanent("the payload is not understood")
    busy = job.payload.get("busy_until", 0) - time.time()
    if busy > 0:
        raise Later(busy)
    await asyncio.sleep(job.payload.get("seconds", 0))
    if job.attempt <= job.payload.get("fails", 0):
        raise RuntimeError("connection reset by peer")


def text_of(job):
    if not isinstance(job.payload.get("text"), str):
        raise Permanent("the payload has no text")
    return job.payload["text"]


async def count_words(job):
    await pretend(job)
    return str(len(text_of(job).split()))


async def shout(job):
    await pretend(job)
    return text_of(job).upper()


HANDLERS = {"count_words": count_words, "shout": shout}


# --- The connection ------------------------------------------------------------------------------


class GaveUp(Exception):
    """The server did not answer while it was worth waiting for."""


class Database:
    """A connection that is made anew when it is lost. The statement is then sent again. It may
    have been carried out before, and that does no harm: the repeated claim gets other jobs,
    and those of the first one are free when their lease is over; a job that is completed already is
    just not completed again."""

    def __init__(self):
        self.connection = None
        self.lock = asyncio.Lock()

    async def query(self, statement, parameters, give_up):
        delay = 0.1
        while True:
            try:
                async with self.lock:
                    if self.connection is None or self.connection.closed:
                        self.connection = await connect()
                    cursor = await self.connection.execute(statement, parameters)
                    return await cursor.fetchall()
            except psycopg.OperationalError as error:
                log.warning("the server does not answer: %s", str(error).strip())
            if await is_set_within(give_up, delay):
                raise GaveUp
            delay = min(2 * delay, 5)


async def connect():
    # Not the server's encoding, which may be any: in SQL_ASCII all text would come as bytes.
    return await psycopg.AsyncConnection.connect(
        autocommit=True, row_factory=namedtuple_row, application_name=WORKER, client_encoding="UTF8"
    )


async def is_set_within(event, seconds):
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    return True


# --- The consumer ------------------------------------------------------------------------------


class Consumer:
    def __init__(self):
        self.database = Database()
        self.wake = asyncio.Event()  # there may be something to claim, or it is time to end
        self.stop = asyncio.Event()  # no more claims
        self.over = asyncio.Event()  # the time for ending in an orderly way is over, too
        self.tasks = set()  # one for each claimed job, from its claim to the answer
        # (job id, token): the task of its handler, while that runs. The token, too: we may claim a job again
        # that we have lost, before we know.
        self.working = {}
        self.exit_code = 0

    async def run(self):
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end)
        helpers = [asyncio.create_task(self.listen()), asyncio.create_task(self.keep_leases())]
        for helper in helpers:
            helper.add_done_callback(self.check)
        try:
            await self.claim_until_stopped()
        except GaveUp:
            pass
        await self.wind_up()
        for helper in helpers:
            helper.cancel()
        await asyncio.wait(helpers)
        log.info("ends")
        return self.exit_code

    def end(self):
        self.stop.set()
        self.wake.set()

    def check(self, task):
        """An unexpected exception ends the consumer, so that its supervisor sees it."""
        if not task.cancelled() and task.exception() and not isinstance(task.exception(), GaveUp):
            log.error("%r", task.exception())
            self.exit_code = 1
            self.end()

    async def claim_until_stopped(self):
        while not self.stop.is_set():
            self.wake.clear()
            free = CONCURRENCY - len(self.tasks)
            if free > 0:
                for job in await self.claim(free):
                    task = asyncio.create_task(self.process(job))
                    self.tasks.add(task)
                    task.add_done_callback(self.job_ended)
            await is_set_within(self.wake, FALLBACK)

    async def claim(self, n):
        return await self.database.query(
            """SELECT id, task_identifier, payload, attempt, max_attempts, claim_token
                 FROM backfill.claim_jobs(%s, tasks => %s, max_jobs => %s, lease => %s)""",
            (WORKER, list(HANDLERS), n, timedelta(seconds=LEASE)),
            give_up=self.stop,
        )

    def job_ended(self, task):
        self.tasks.discard(task)
        self.wake.set()
        self.check(task)

    async def process(self, job):
        log.info("job %d: begins %s, attempt %d of %d", job.id, job.task_identifier, job.attempt, job.max_attempts)
        work = asyncio.create_task(HANDLERS[job.task_identifier](job))
        key = (job.id, job.claim_token)
        self.working[key] = work
        await asyncio.wait([work])
        if self.working.pop(key, None) is None:
            log.info("job %d: dropped, its lease is over", job.id)
        elif work.cancelled():
            await self.answer(job, "released", "SELECT * FROM backfill.release_jobs(ARRAY[%s]::bigint[], %s)", job.id, job.claim_token)
        elif (error := work.exception()) is None:
            await self.answer(
                job,
                "completed",
                """INSERT INTO examples.result (job_id, worker, result)
                   SELECT id, %s, %s FROM backfill.complete_jobs(ARRAY[%s]::bigint[], %s) id
                   RETURNING job_id""",
                WORKER,
                work.result(),
                job.id,
                job.claim_token,
            )
        elif isinstance(error, Later):
            await self.answer(
                job,
                f"snoozed for {error}",
                "SELECT true WHERE backfill.snooze_job(%s, %s, %s)",
                job.id,
                job.claim_token,
                timedelta(seconds=error.seconds),
            )
        else:
            await self.fail(job, error)

    async def answer(self, job, outcome, statement, *parameters):
        """Say what became of a job. No row comes back if the claim does not have it any more."""
        rows = await self.database.query(statement, parameters, give_up=self.over)
        log.info("job %d: %s", job.id, outcome if rows else "was not ours any more")

    async def fail(self, job, error):
        permanent = True if isinstance(error, Permanent) else None  # None: the text decides
        rows = await self.database.query(
            "SELECT backfill.fail_job(%s, %s, %s, %s) AS outcome",
            (job.id, job.claim_token, str(error) or repr(error), permanent),
            give_up=self.over,
        )
        log.info("job %d: failed (%s): %s", job.id, rows[0].outcome, error)

    async def keep_leases(self):
        """Send heartbeats, three in the time of a lease, and drop the jobs that are lost."""
        while True:
            await asyncio.sleep(LEASE / 3)
            for token in {token for _, token in self.working}:
                rows = await self.database.query(
                    "SELECT id FROM backfill.heartbeat(%s, %s) id",
                    (token, timedelta(seconds=LEASE)),
                    give_up=self.over,
                )
                held = {row.id for row in rows}
                for (id, its_token), work in list(self.working.items()):
                    if its_token == token and id not in held:
                        del self.working[id, token]
                        work.cancel()

    async def listen(self):
        """Wake the claims when there may be jobs, from a connection of its own."""
        delay = 0.1
        while True:
            try:
                async with await connect() as connection:
                    await connection.execute("LISTEN backfill")
                    log.info("listens")
                    delay = 0.1
                    self.wake.set()  # earlier notifications were missed
                    async for _ in connection.notifies():
                        self.wake.set()
            except psycopg.OperationalError as error:
                log.warning("not listening: %s", str(error).strip())
            await asyncio.sleep(delay)
            delay = min(2 * delay, 5)

    async def wind_up(self):
        """Let the jobs that run end; hand back those that do not in time."""
        if self.tasks:
            log.info("waits for %d jobs", len(self.tasks))
            await asyncio.wait(self.tasks, timeout=GRACE)
        for work in list(self.working.values()):
            work.cancel()
        if self.tasks:
            _, late = await asyncio.wait(self.tasks, timeout=5)
            if late:  # their leases will run out
                self.over.set()
                self.exit_code = 1
                await asyncio.wait(late, timeout=1)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    sys.exit(asyncio.run(Consumer().run()))

#!/usr/bin/env node
// A consumer of backfill jobs in Node.js, with pg.
//
// It claims up to CONCURRENCY jobs at a time, keeps their leases while they run, and stores each
// result in the transaction that completes the job. Where the server is, libpq's variables say
// (PGHOST, PGDATABASE, ...). SIGTERM or SIGINT ends it: it claims no more, gives running jobs
// GRACE seconds to end, and hands back the rest. See ../README.md.
import { hostname } from 'node:os'
import process from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'

const { env } = process
const worker = env.WORKER ?? `${hostname()}-${process.pid}`
const concurrency = Number(env.CONCURRENCY ?? 4)
const lease = Number(env.LEASE ?? 60) // seconds, like all that follow
const grace = Number(env.GRACE ?? 20)
const fallback = Number(env.FALLBACK ?? 30) // claims at least so often, notified or not

const log = (text) => console.error(`${worker}: ${text}`)

// --- The work: replace this with your own. -----------------------------------------------------

// The job can never succeed.
class Permanent extends Error {}

// The job should be tried again after some seconds; this costs no attempt.
class Later extends Error {
  constructor(seconds) {
    super(`${seconds.toFixed(1)} s`)
    this.seconds = seconds
  }
}

// Behaves as the payload says, in place of an outside service. The signal aborts it when the job is
// not ours any more.
async function pretend({ payload, attempt }, signal) {
  if (payload === null || typeof payload !== 'object') throw new Permanent('the payload is not understood')
  const busy = (payload.busy_until ?? 0) - Date.now() / 1000
  if (busy > 0) throw new Later(busy)
  await sleep((payload.seconds ?? 0) * 1000, undefined, { signal })
  if (attempt <= (payload.fails ?? 0)) throw new Error('connection reset by peer')
}

function textOf({ payload }) {
  if (typeof payload.text !== 'string') throw new Permanent('the payload has no text')
  return payload.text
}

const handlers = {
  async count_words(job, signal) {
    await pretend(job, signal)
    return String(textOf(job).split(/\s+/).filter(Boolean).length)
  },
  async shout(job, signal) {
    await pretend(job, signal)
    return textOf(job).toUpperCase()
  },
}

// --- Waiting -----------------------------------------------------------------------------------

// Something that happens once, such as the request to end.
class Event {
  happened = false
  #resolve
  #promise = new Promise((resolve) => (this.#resolve = resolve))
  set() {
    this.happened = true
    this.#resolve()
  }
  // Whether it happens within `seconds` seconds.
  async within(seconds) {
    const timer = new AbortController()
    const timeout = sleep(seconds * 1000, undefined, { signal: timer.signal }).catch(() => {})
    await Promise.race([this.#promise, timeout])
    timer.abort()
    return this.happened
  }
}

const stop = new Event() // no more claims
const over = new Event() // the time for ending in an orderly way is over, too
let wake = new Event() // there may be something to claim, or it is time to end

function end() {
  stop.set()
  wake.set()
}
function fatal(error) {
  log(error.stack)
  process.exitCode = 1
  end()
}

// --- The connection ----------------------------------------------------------------------------

// The server did not answer while it was worth waiting for.
class GaveUp extends Error {}

let current // the client in use
let connection // a promise of it, connected

function connected() {
  connection ??= connect().catch((error) => {
    connection = undefined
    throw error
  })
  return connection
}

async function connect() {
  const client = (current = new pg.Client({ application_name: worker }))
  client.on('error', (error) => log(`the connection is lost: ${error.message}`))
  client.on('end', () => {
    if (client === current) connection = undefined
    wake.set()
  })
  client.on('notification', () => wake.set())
  await client.connect()
  await client.query('LISTEN backfill')
  log('listens')
  wake.set() // earlier notifications were missed
  return client
}

// Whether a statement may be carried out when it is sent again.
function isTemporary(error) {
  return !(error instanceof pg.DatabaseError) || /^(08|40|53|57|58)/.test(error.code)
}

// Sends a statement; again, on a new connection, if that is lost. It may have been carried out
// before, and that does no harm: the repeated claim gets other jobs, and those of the first one are free
// when their lease is over; a job that is completed already is just not completed again.
async function query(text, values, giveUp) {
  for (let delay = 0.1; ; delay = Math.min(2 * delay, 5)) {
    try {
      const client = await connected()
      return (await client.query(text, values)).rows
    } catch (error) {
      if (!isTemporary(error)) throw error
      log(`the server does not answer: ${error.message}`)
    }
    if (await giveUp.within(delay)) throw new GaveUp()
  }
}

// --- The consumer ------------------------------------------------------------------------------

const tasks = new Set() // a promise for each claimed job, from its claim to the answer
// Of the jobs whose handlers run: { id, token, abort }. We may claim a job again that we have lost,
// before we know; so it may be here twice.
const working = new Set()

async function claimUntilStopped() {
  while (!stop.happened) {
    wake = new Event()
    const free = concurrency - tasks.size
    if (free > 0) {
      for (const job of await claim(free)) {
        const task = work(job)
          .catch((error) => error instanceof GaveUp || fatal(error))
          .finally(() => {
            tasks.delete(task)
            wake.set()
          })
        tasks.add(task)
      }
    }
    if (!stop.happened) await wake.within(fallback)
  }
}

function claim(n) {
  return query(
    `SELECT id, task_identifier, payload, attempt, max_attempts, claim_token
       FROM backfill.claim_jobs($1, tasks => $2, max_jobs => $3, lease => make_interval(secs => $4))`,
    [worker, Object.keys(handlers), n, lease],
    stop,
  )
}

async function work(job) {
  log(`job ${job.id}: begins ${job.task_identifier}, attempt ${job.attempt} of ${job.max_attempts}`)
  const abort = new AbortController()
  const entry = { id: job.id, token: job.claim_token, abort }
  working.add(entry)
  let result, error
  try {
    result = await handlers[job.task_identifier](job, abort.signal)
  } catch (e) {
    error = e
  }
  if (!working.delete(entry)) {
    log(`job ${job.id}: dropped, its lease is over`)
  } else if (error === undefined) {
    await answer(
      job,
      'completed',
      `INSERT INTO examples.result (job_id, worker, result)
       SELECT id, $3, $4 FROM backfill.complete_jobs(ARRAY[$1::bigint], $2) id
       RETURNING job_id`,
      [worker, result],
    )
  } else if (abort.signal.aborted) {
    await answer(job, 'released', 'SELECT * FROM backfill.release_jobs(ARRAY[$1::bigint], $2)')
  } else if (error instanceof Later) {
    await answer(job, `snoozed for ${error.message}`, 'SELECT true WHERE backfill.snooze_job($1, $2, make_interval(secs => $3))', [error.seconds])
  } else {
    await fail(job, error)
  }
}

// Says what became of a job. No row comes back if the claim does not have it any more.
async function answer(job, outcome, text, values = []) {
  const rows = await query(text, [job.id, job.claim_token, ...values], over)
  log(`job ${job.id}: ${rows.length > 0 ? outcome : 'was not ours any more'}`)
}

async function fail(job, error) {
  const permanent = error instanceof Permanent ? true : null // null: the text decides
  const rows = await query('SELECT backfill.fail_job($1, $2, $3, $4) AS outcome', [job.id, job.claim_token, error.message, permanent], over)
  log(`job ${job.id}: failed (${rows[0].outcome}): ${error.message}`)
}

// Sends heartbeats, three in the time of a lease, and drops the jobs that are lost.
async function keepLeases() {
  while (!(await over.within(lease / 3))) {
    for (const token of new Set([...working].map((entry) => entry.token))) {
      const rows = await query('SELECT id FROM backfill.heartbeat($1, make_interval(secs => $2)) id', [token, lease], over)
      const held = new Set(rows.map((row) => row.id))
      for (const entry of [...working]) {
        if (entry.token === token && !held.has(entry.id)) {
          working.delete(entry)
          entry.abort.abort()
        }
      }
    }
  }
}

// Lets the jobs that run end; hands back those that do not in time.
async function windUp() {
  const ended = new Event()
  const allEnded = () => Promise.all(tasks).then(() => ended.set())
  if (tasks.size > 0) log(`waits for ${tasks.size} jobs`)
  allEnded()
  if (!(await ended.within(grace))) {
    for (const { abort } of working) abort.abort()
    if (!(await ended.within(5))) process.exitCode = 1 // their leases will run out
  }
}

process.on('SIGTERM', end)
process.on('SIGINT', end)
const keeping = keepLeases().catch((error) => error instanceof GaveUp || fatal(error))
await claimUntilStopped().catch((error) => error instanceof GaveUp || fatal(error))
await windUp()
over.set()
await keeping
await connection?.then((client) => client.end()).catch(() => {})
log('ends')
process.exit()

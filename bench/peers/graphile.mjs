// graphile-worker, with the batching that its own page on performance uses, or without it:
// "classic", as it is without configuration.

import { run, runMigrations, Logger } from 'graphile-worker';
import pg from 'pg';

const batching = { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };
const quiet = new Logger(() => (level, message) => {
    if (level === 'error') console.error(message);
});

export async function install(pool) {
    await runMigrations({ pgPool: pool, logger: quiet });
}

export async function clear(pool) {
    await pool.query('TRUNCATE graphile_worker._private_jobs');
}

// All jobs in one statement.
export async function fill(pool, task, jobs) {
    await pool.query(
        `SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
             SELECT ROW($1, json_build_object('n', n), NULL, NULL, NULL, NULL, NULL, NULL)::graphile_worker.job_spec
               FROM generate_series(1, $2::integer) n))`, [task, jobs]);
}

export async function addOne(pool, task, n) {
    await pool.query({ name: 'add', text: 'SELECT graphile_worker.add_job($1, $2::json)', values: [task, JSON.stringify({ n })] });
}

export async function left(pool) {
    return Number((await pool.query('SELECT count(*) FROM graphile_worker._private_jobs')).rows[0].count);
}

export const latencyStatement = "SELECT graphile_worker.add_job('bench_latency', json_build_object('n', $1))";

// Starts a worker; onJob(n) is called when a job starts. Of what it returns, stop() ends when
// everything that was done is written, end() gives the rest back.
export async function start({ onJob, classic }) {
    const pool = new pg.Pool({ max: 25 });
    pool.on('error', console.error);
    pool.on('connect', (client) => client.on('error', console.error));
    const runner = await run({
        pgPool: pool,
        logger: quiet,
        noHandleSignals: true,
        preset: { worker: { concurrentJobs: 24, maxPoolSize: 25, ...(classic ? {} : batching) } },
        taskList: {
            bench_noop: async ({ n }) => { onJob(n); },
            bench_latency: async ({ n }) => { onJob(n); },
            bench_insert: async ({ n }, helpers) => {
                onJob(n);
                await helpers.query('INSERT INTO bench.effect VALUES ($1)', [n]);
            },
        },
    });
    return { stop: () => runner.stop(), end: () => pool.end() };
}

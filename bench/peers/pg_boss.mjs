// pg-boss, fetching and completing a thousand jobs at a time, with its maintenance off
// except when it is idle.

import { PgBoss } from 'pg-boss';
import pg from 'pg';

const quiet = { supervise: false, schedule: false, migrate: false };
const connection = () => ({ host: process.env.PGHOST, user: process.env.PGUSER, database: process.env.PGDATABASE });
const tasks = ['bench_noop', 'bench_insert'];
let boss; // the one that only enqueues

export async function install() {
    boss = new PgBoss({ ...connection(), supervise: false, schedule: false, max: 10 });
    boss.on('error', (error) => console.error(error));
    await boss.start();
    for (const task of tasks) await boss.createQueue(task, { partition: true });
}

export async function uninstall() {
    await boss.stop({ graceful: false });
}

export async function clear(pool) {
    for (const task of tasks) await boss.deleteAllJobs(task);
    await pool.query('VACUUM');
}

export async function fill(pool, task, jobs) {
    for (let from = 1; from <= jobs; from += 20000) {
        const to = Math.min(from + 20000 - 1, jobs);
        await boss.insert(task, Array.from({ length: to - from + 1 }, (_, i) => ({ data: { n: from + i } })));
    }
}

export async function addOne(pool, task, n) {
    await boss.send(task, { n });
}

export async function left(pool) {
    return Number((await pool.query("SELECT count(*) FROM pgboss.job WHERE state < 'completed'")).rows[0].count);
}

export async function start({ onJob, idle }) {
    const worker = new PgBoss({ ...connection(), max: 10, ...(idle ? { migrate: false } : quiet) });
    const pool = new pg.Pool({ max: 10 });
    worker.on('error', (error) => console.error(error));
    await worker.start();
    const options = idle ? {} : { batchSize: 1000, localConcurrency: 2, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5 };
    await worker.work('bench_noop', options, async (jobs) => { for (const job of jobs) onJob(job.data.n); });
    if (!idle) {
        await worker.work('bench_insert', options, async (jobs) => {
            await Promise.all(jobs.map((job) => {
                onJob(job.data.n);
                return pool.query({ name: 'put', text: 'INSERT INTO bench.effect VALUES ($1)', values: [job.data.n] });
            }));
        });
    }
    return {
        async stop() {
            await Promise.all(tasks.map((task) => worker.offWork(task, { wait: true })));
        },
        async end() {
            await worker.stop({ graceful: false });
            await pool.end();
        },
    };
}

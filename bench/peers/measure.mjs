// Measures a peer queue on the server that PGHOST names, in the database PGDATABASE, and
// prints what it found as JSON.
//
//   measure.mjs QUEUE install
//   measure.mjs QUEUE fill JOBS               how long enqueueing all in one go takes
//   measure.mjs QUEUE drain OPTIONS           OPTIONS: JSON with task, jobs, workers, and
//                                             hold (a snapshot of before), singles (fill one by
//                                             one), countWal (no checkpoint between), classic
//   measure.mjs QUEUE latency SAMPLES [classic]
//   measure.mjs QUEUE idle                    starts a worker, says so, stays until it is killed
//
// QUEUE is graphile or pg_boss. Each worker is a process of its own.

import { fork } from 'node:child_process';
import pg from 'pg';

const [, , name, what, ...args] = process.argv;
const queue = await import(`./${name}.mjs`);
const pool = new pg.Pool({ max: 8 });
pool.on('error', console.error);
pool.on('connect', (client) => client.on('error', console.error));
const now = () => performance.timeOrigin + performance.now();

class Child {
    static async make() {
        const child = new Child();
        child.process = fork(new URL('./child.mjs', import.meta.url).pathname, [name]);
        child.process.on('exit', (code) => { if (!child.ending) throw new Error(`a worker process ended with ${code}`); });
        child.waiting = new Map();
        child.process.on('message', (message) => {
            if (message.kind === 'progress') Object.assign(child, message);
            child.waiting.get(message.kind)?.(message);
            child.waiting.delete(message.kind);
        });
        await child.message('ready');
        return child;
    }
    message(kind) {
        return new Promise((resolve) => this.waiting.set(kind, resolve));
    }
    async start(options, keepStarts = false) {
        this.done = 0;
        this.first = null;
        const started = this.message('started');
        this.process.send({ kind: 'start', options, keepStarts });
        await started;
    }
    async stop() {
        const stopped = this.message('stopped');
        this.process.send({ kind: 'stop' });
        return stopped;
    }
    end() {
        this.ending = true;
        this.process.send({ kind: 'end' });
    }
}

async function wait(condition, seconds) {
    const limit = now() + seconds * 1000;
    while (!condition() && now() < limit) await new Promise((resolve) => setTimeout(resolve, 5));
    return condition();
}

// Have all children work until `jobs` jobs are done.
async function work(children, options, jobs, seconds) {
    const series = [];
    const done = () => children.reduce((sum, child) => sum + child.done, 0);
    const firsts = () => children.map((child) => child.first).filter(Boolean);
    const sampler = setInterval(() => { if (firsts().length) series.push([now(), done()]); }, 50);
    const starting = Promise.all(children.map((child) => child.start(options)));
    const finished = await wait(() => done() >= jobs, seconds);
    const seen = now();
    clearInterval(sampler);
    await starting;
    const ends = await Promise.all(children.map((child) => child.stop()));
    const first = Math.min(...firsts());
    const end = finished ? Math.max(...ends.map((stopped) => stopped.at)) : seen;
    series.push([end, done()]);
    return { finished, done: done(), seconds: (end - first) / 1000, series: series.map(([at, count]) => [(at - first) / 1000, count]) };
}

async function wal() {
    return Number((await pool.query("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') AS bytes")).rows[0].bytes);
}

async function drain({ task = 'bench_noop', jobs, workers = 1, hold = false, singles = false, countWal = false, classic = false, limit = 120, warm = 5000 }) {
    const options = { classic };
    const children = await Promise.all(Array.from({ length: workers }, () => Child.make()));
    await queue.clear(pool);
    await queue.fill(pool, task, warm);
    const warmed = await work(children, options, warm, 60);
    if (!warmed.finished) throw new Error(`the warm-up did not end: ${warmed.done} of ${warm} jobs`);
    await queue.clear(pool);
    await pool.query('TRUNCATE bench.effect');
    const holder = new pg.Client();
    await holder.connect();
    if (hold) {
        await holder.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
        await holder.query('SELECT 1');
    }
    await pool.query('CHECKPOINT');
    let walBefore = await wal();
    if (singles) {
        let n = 0;
        await Promise.all(Array.from({ length: 8 }, async () => { while (n < jobs) await queue.addOne(pool, task, ++n); }));
    } else {
        await queue.fill(pool, task, jobs);
    }
    // What this writes counts for no rival; but a checkpoint would make what comes after it write full pages.
    const walFilled = await wal();
    await pool.query('ANALYZE');
    if (!countWal) await pool.query('CHECKPOINT');
    walBefore += (await wal()) - walFilled;
    const result = await work(children, options, jobs, limit);
    result.wal = (await wal()) - walBefore;
    await holder.end();
    for (const child of children) child.end();
    result.left = await queue.left(pool);
    if (result.finished && (result.done !== jobs || result.left !== 0)) throw new Error(`not every job ran once: ${JSON.stringify({ ...result, series: undefined })}`);
    result.rate = Math.round(result.done / result.seconds);
    return result;
}

function percentiles(values) {
    values.sort((a, b) => a - b);
    return [50, 95, 99].map((p) => values[Math.min(values.length - 1, Math.ceil(p / 100 * values.length) - 1)]);
}

async function latency(samples, classic) {
    const child = await Child.make();
    await queue.clear(pool);
    await child.start({ classic }, true);
    const probe = `CALL bench.latency_probe($1, ${samples}, 20)`;
    await pool.query({ text: probe, values: [queue.latencyStatement] });
    await wait(() => child.done >= samples + 20, 10);
    const starts = new Map((await child.stop()).starts);
    child.end();
    const rows = (await pool.query('SELECT n::integer, sent::float8, acknowledged::float8 FROM bench.sent WHERE n > 0')).rows;
    if (rows.length !== samples || rows.some((row) => !starts.has(row.n))) throw new Error('not every job of the latency benchmark ran');
    return {
        statement: percentiles(rows.map((row) => starts.get(row.n) - row.sent)),
        commit: percentiles(rows.map((row) => starts.get(row.n) - row.acknowledged)),
    };
}

async function main() {
    await queue.install(pool);
    if (what === 'fill') {
        const jobs = Number(args[0]);
        await queue.clear(pool);
        await queue.fill(pool, 'bench_noop', 5000);
        await queue.clear(pool);
        await pool.query('CHECKPOINT');
        const started = now();
        await queue.fill(pool, 'bench_noop', jobs);
        return { rate: Math.round(jobs / ((now() - started) / 1000)) };
    }
    if (what === 'drain') return drain(JSON.parse(args[0]));
    if (what === 'latency') return latency(Number(args[0]), args[1] === 'classic');
    if (what === 'idle') {
        await queue.clear(pool);
        await queue.uninstall?.();
        await queue.start({ onJob() {}, idle: true });
        await pool.end();
        console.log('{}');
        await new Promise(() => setInterval(() => {}, 1 << 30));
    }
    return {};
}

console.log(JSON.stringify(await main()));
await queue.uninstall?.();
await pool.end();
process.exit(0);

// A small world of made-up jobs for mock/server.mjs: it moves once a second, and the calls of the API change it.

let seed = 7;
const random = () => ((seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648);
const pick = (list) => list[Math.floor(random() * list.length)];
const iso = (ms) => new Date(ms).toISOString().replace('Z', '+00:00');
const count = (n, cap = 10000) => ({ count: Math.min(n, cap), capped: n > cap });

const kTasks = ['send_mail', 'render_invoice', 'sync_crm', 'resize_image', 'import_orders', 'reindex', 'expire_sessions', 'export_report'];
const kQueues = ['fast', 'bulk', 'mail', 'customer-4711', 'reports', 'eu-west/sync', '<b>not bold</b>'];
const kPriorities = [-20, -10, -5, 0, 0, 0, 5, 10];
const kErrors = [
    ['22P02', 'invalid input syntax for type integer: "12,5"', 'null value is not an option', 'Correct the amount.'],
    ['23505', 'duplicate key value violates unique constraint "invoice_number_key"', 'Key (number)=(2026-0815) already exists.', null],
    ['P0001', 'the mail server refused the recipient: 550 5.1.1 <nobody@example.com>: Recipient address rejected: User unknown in virtual mailbox table', null, null],
    ['57014', 'canceling statement due to statement timeout', null, null],
    [null, 'consumer: HTTP 502 from the CRM', null, null],
];
const bandOf = (p) => (p <= -20 ? 'EMERGENCY' : p <= -10 ? 'FAST_HIGH' : p < 0 ? 'FAST_DEFAULT' : p < 5 ? 'BULK_DEFAULT' : p < 10 ? 'BULK_LOW' : 'BULK_LOWEST');

export class World {
    jobs = new Map();
    letters = new Map();
    history = [];
    audit = [];
    queues = new Map();
    schedules = new Map();
    workers = [];
    points = [];
    counters = { enqueued: 184_233_210, completed: 184_220_004, failed: 2210, retried: 1800, dead: 410 };
    lastId = 90_071_992_547_000;

    constructor(isEmpty) {
        this.isEmpty = isEmpty;
        for (const name of ['fast', 'bulk']) this.queues.set(name, { queue_name: name, concurrency: name === 'fast' ? 10 : 5, rate_limit: null, rate_period: null, max_depth: null, paused: false, automatic: false });
        const now = Date.now();
        const start = now - 3600_000;
        for (let i = 0; i < 3; i++) this.workers.push(this.idleWorker(41200 + i, i === 0 ? 'dispatcher' : 'executor', now - 86400_000));
        if (isEmpty) return;
        for (const name of kQueues.slice(2)) this.queues.set(name, { queue_name: name, concurrency: pick([1, 2, null]), rate_limit: name === 'mail' ? 100 : null, rate_period: name === 'mail' ? 60 : null, max_depth: name === 'reports' ? 5000 : null, paused: name === 'reports', automatic: name.startsWith('c') });
        for (let i = 0; i < 5; i++) this.workers.push(this.idleWorker(41300 + i, 'executor', now - 3600_000 * i));
        for (let i = 0; i < 1320; i++) this.addJob({ created: now - random() * 7200_000 });
        for (let i = 0; i < 431; i++) this.bury(this.newJob({ created: now - random() * 5e8 }), now - random() * 2.6e8);
        for (let i = 0; i < 260; i++) this.end(this.newJob({ created: now - random() * 8e7 }), now - random() * 7e7);
        this.history.sort((a, b) => (a.finished_at < b.finished_at ? 1 : -1));
        for (let t = start; t < now; t += 1000) if (t < now - 1_500_000 || t > now - 1_380_000) this.points.push(this.pointAt(t));
        this.schedules.set('nightly report', { name: 'nightly report', cron: '0 3 * * 1-5', time_zone: 'Europe/Berlin', task_identifier: 'export_report', payload: { to: 'boss@example.com', wide: true }, queue_name: 'reports', priority: null, max_attempts: 3, job_key: null, job_key_mode: 'replace', retry_policy: null, timeout: 900, fill: 86400, max_catchup: 3, catchup: 'latest', last_run_at: iso(now - 4e7), last_error: null, scheduled_by: 'app' });
        this.schedules.set('expire', { name: 'expire', cron: '*/5 * * * *', time_zone: 'UTC', task_identifier: 'expire_sessions', payload: {}, queue_name: null, priority: 10, max_attempts: null, job_key: 'expire', job_key_mode: 'unsafe_dedupe', retry_policy: null, timeout: null, fill: 0, max_catchup: 1000, catchup: 'all', last_run_at: iso(now - 2e5), last_error: 'role "(missing)" does not exist', scheduled_by: '(missing)' });
        for (let i = 0; i < 140; i++) this.note(pick(['admin', 'ops', 'app']), pick(['cancel_job', 'requeue_dlq_job', 'set_queue', 'pause_queue', 'register_task']), pick(['job', 'queue', 'dead_letter']), [String(this.lastId - i * 31)], i % 3 ? null : { priority: 0, payload: { amount: 12 } }, i % 3 ? null : { priority: 5, payload: { amount: 13 } }, now - i * 731_000);
    }

    idleWorker(pid, kind, started) {
        return { pid, kind, role: kind === 'executor' ? 'app' : 'postgres', state: 'idle', job_id: null, task_identifier: null, attempt: null, state_since: iso(Date.now()), started_at: iso(started), jobs_done: String(Math.floor(random() * 90000)), jobs_failed: String(Math.floor(random() * 30)), progress: null, progress_message: null };
    }
    newJob({ created = Date.now(), ...given } = {}) {
        const task = pick(kTasks);
        const priority = pick(kPriorities);
        const id = String((this.lastId += 1 + Math.floor(random() * 3)));
        const late = random() < 0.3;
        const failed = random() < 0.12 ? 1 + Math.floor(random() * 4) : 0;
        const error = pick(kErrors);
        return {
            id, task_identifier: task, payload: { order: 4711 + Number(id.slice(-4)), customer: pick(['Müller & Söhne', 'ACME', '<script>alert(1)</script>']), amount: 12.5, lines: [{ sku: 'A-1', n: 2 }, { sku: 'B-7', n: 1, note: null }], express: random() < 0.5 },
            payload_size: 260, queue_name: random() < 0.15 ? null : pick(kQueues), priority, priority_band: bandOf(priority), run_at: iso(late ? Date.now() + random() * 9e6 : created + failed * 60_000), attempts: failed, max_attempts: 5, job_key: random() < 0.2 ? `invoice:${id.slice(-5)}` : null,
            retry_policy: 'default', state: late ? 'scheduled' : 'ready', last_error: failed ? { sqlstate: error[0], message: error[1], detail: error[2], hint: error[3], context: 'PL/pgSQL function send_mail(jsonb) line 12 at RAISE\nSQL statement "SELECT send_mail($1)"' } : null,
            worker: null, lease_expires_at: null, timeout: null, created_at: iso(created), progress: null, progress_message: null, flags: null, headers: random() < 0.4 ? { traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01' } : null, ...given,
        };
    }
    addJob(given) {
        const job = this.newJob(given);
        if (random() < 0.01) Object.assign(job, { state: 'leased', worker: 'render-7', lease_expires_at: iso(Date.now() + 240_000) });
        this.jobs.set(job.id, job);
        this.counters.enqueued++;
        return job;
    }
    bury(job, at) {
        const error = pick(kErrors);
        const id = String(1000 + this.letters.size);
        this.jobs.delete(job.id);
        this.letters.set(id, { id, original_job_id: job.id, task_identifier: job.task_identifier, payload: job.payload, payload_size: 260, queue_name: job.queue_name, priority: job.priority, job_key: job.job_key, max_attempts: 5, failure_reason: error[1], failure_count: 5, last_error: { sqlstate: error[0], message: error[1], detail: error[2], hint: error[3], context: 'PL/pgSQL function render_invoice(jsonb) line 31 at assignment' }, original_created_at: job.created_at, original_run_at: job.run_at, failed_at: iso(at), requeued_count: 0, last_requeued_at: null, notes: null, headers: null, waiting: false });
    }
    end(job, at, outcome = pick(['completed', 'completed', 'completed', 'completed', 'discarded', 'cancelled'])) {
        this.jobs.delete(job.id);
        this.history.unshift({ id: job.id, task_identifier: job.task_identifier, queue_name: job.queue_name, priority: job.priority, job_key: job.job_key, outcome, attempts: job.attempts + 1, max_attempts: 5, created_at: job.created_at, started_at: iso(at - random() * 5000), finished_at: iso(at), worker: 'executor 41301', result: outcome === 'completed' ? { sent: true } : null, error: outcome === 'completed' ? null : { sqlstate: 'P0001', message: 'not needed any more' }, earlier_errors: null, keep_until: iso(at + 6e8), headers: null });
    }
    note(actor, action, kind, objects, before, after, at = Date.now()) {
        this.audit.unshift({ id: String(this.audit.length + 1), at: iso(at), actor, role: actor, application_name: pick(['backfill-web', 'psql']), client_addr: pick(['10.0.0.7', null]), action, kind, objects, count: objects.length, before, after });
        this.audit.sort((a, b) => (a.at < b.at ? 1 : -1));
    }
    pointAt(t) {
        const wave = Math.sin(t / 240_000);
        const base = this.isEmpty ? 0 : 180 + 90 * wave + random() * 40;
        return [t, this.isEmpty ? 0 : Math.round(900 + 300 * wave + random() * 60), Math.round(base), Math.round(base * (0.9 + random() * 0.2)), random() < 0.1 ? Math.round(random() * 9) : 0, this.isEmpty ? null : 0.4 + 0.3 * wave + random() * 0.2, this.isEmpty ? null : 0.05 + random() * 0.03];
    }
    /** A second passes. */
    step() {
        const now = Date.now();
        for (const worker of this.workers) {
            if (worker.kind !== 'executor') continue;
            const job = worker.job_id && this.jobs.get(worker.job_id);
            if (job) {
                worker.progress = Math.min(1, worker.progress + 0.02 + random() * 0.05);
                worker.progress_message = `${Math.round(worker.progress * 5000)} of 5000 rows`;
                Object.assign(job, { progress: worker.progress, progress_message: worker.progress_message });
            }
            if (worker.job_id && (!job || worker.progress >= 1)) {
                if (job) this.end(job, now, 'completed');
                this.counters.completed++;
                Object.assign(worker, { state: 'idle', job_id: null, task_identifier: null, attempt: null, progress: null, progress_message: null, state_since: iso(now), jobs_done: String(Number(worker.jobs_done) + 1) });
            } else if (!worker.job_id && random() < 0.5) {
                const next = [...this.jobs.values()].find((each) => each.state === 'ready' && !this.queues.get(each.queue_name)?.paused);
                if (next) {
                    Object.assign(next, { state: 'running', worker: `executor ${worker.pid}`, progress: 0 });
                    Object.assign(worker, { state: 'running', job_id: next.id, task_identifier: next.task_identifier, attempt: next.attempts + 1, state_since: iso(now), progress: 0 });
                }
            }
        }
        if (!this.isEmpty && random() < 0.6) this.addJob();
        for (const job of this.jobs.values()) if (job.state === 'scheduled' && Date.parse(job.run_at) <= now) job.state = 'ready';
        this.points.push(this.pointAt(now));
        if (this.points.length > 3600) this.points.shift();
    }
    queueObject(name) {
        const config = this.queues.get(name) ?? { queue_name: name, concurrency: null, rate_limit: null, rate_period: null, max_depth: null, paused: false, automatic: true };
        const inside = [...this.jobs.values()].filter((job) => job.queue_name === name);
        const of = (state) => inside.filter((job) => job.state === state).length;
        return { ...config, ready: count(of('ready'), 1000), scheduled: count(of('scheduled'), 1000), running: of('running'), leased: of('leased'), oldest_ready_at: inside.filter((job) => job.state === 'ready').map((job) => job.run_at).sort()[0] ?? null };
    }
    taskObjects() {
        if (this.isEmpty) return [];
        const jobs = [...this.jobs.values()];
        return [...kTasks, 'unknown_thing'].map((name, i) => ({
            task_identifier: name, kind: name === 'unknown_thing' ? 'unregistered' : name === 'sync_crm' ? 'external' : i % 3 ? 'function' : 'procedure', handler: name === 'sync_crm' || name === 'unknown_thing' ? null : `app.${name}(jsonb)`, handler_exists: true, run_as: name === 'unknown_thing' ? null : 'app', queue_name: i % 2 ? 'bulk' : null, priority: null, max_attempts: 5, retry_policy: 'default', timeout: i % 2 ? 300 : null, notify_channel: null, registered_at: name === 'unknown_thing' ? null : iso(Date.now() - 9e8), keep_history: i % 2 ? 604800 : null, savepoint_per_job: false,
            jobs: count(jobs.filter((job) => job.task_identifier === name).length, 1000), dead: count([...this.letters.values()].filter((letter) => letter.task_identifier === name).length), problem: name === 'unknown_thing' ? 'it is not registered: its jobs wait until it is, or a consumer claims them' : name === 'reindex' ? 'function app.reindex(jsonb) does not exist' : null,
        }));
    }
    overview() {
        const jobs = [...this.jobs.values()];
        const of = (state) => jobs.filter((job) => job.state === state);
        const today = new Date().toISOString().slice(0, 10);
        const last = this.points.at(-1) ?? this.pointAt(Date.now());
        return {
            at: iso(Date.now()), database: 'app', version: '0.1.0', server_version: '15.20 (Debian)', in_recovery: false,
            jobs: { ready: count(of('ready').length), scheduled: count(of('scheduled').length), running: of('running').length, leased: of('leased').length, dead: count(this.letters.size), estimated: jobs.length },
            bands: kPriorities.filter((p, i) => kPriorities.indexOf(p) === i).map((p) => ({ band: bandOf(p), ready: count(of('ready').filter((job) => job.priority === p).length) })),
            queues: this.isEmpty ? [] : kQueues.map((name) => this.queueObject(name)).sort((a, b) => b.ready.count - a.ready.count),
            oldest_ready_at: of('ready').map((job) => job.run_at).sort()[0] ?? null, dead_today: count([...this.letters.values()].filter((letter) => letter.failed_at.startsWith(today)).length),
            counters: Object.fromEntries(Object.entries(this.counters).map(([name, value]) => [name, String(value)])), wait: { bounds: [], counts: [] }, run: { bounds: [], counts: [] }, workers: this.workers,
            rates: { enqueued: last[2], completed: last[3], failed: last[4] }, wait_p95: last[5], run_p95: last[6],
        };
    }
    health() {
        const checks = ['preloaded', 'version', 'launcher', 'dispatcher', 'executors', 'worker_slots', 'oldest_ready_job', 'handlers', 'hooks', 'roles', 'dead_letters', 'dead_rows', 'autovacuum'].map((check) => ({ check, status: 'ok', detail: 'nothing to report', hint: null }));
        if (!this.isEmpty) {
            checks.push({ check: 'unregistered_tasks', status: 'warning', detail: '1 task has jobs and is not registered: unknown_thing', hint: 'Register it with backfill.register_task(), or let a consumer claim its jobs.' });
            checks.push({ check: 'paused_queues', status: 'warning', detail: 'queue reports is paused, and 34 jobs wait in it', hint: 'backfill.resume_queue() lets it go on.' });
            checks.push({ check: 'schedules', status: 'critical', detail: 'schedule expire could not be enqueued: role "(missing)" does not exist', hint: 'Call backfill.schedule() again as a role that exists.' });
        }
        return { status: this.isEmpty ? 'ok' : 'critical', checks };
    }
}
export { count, iso };

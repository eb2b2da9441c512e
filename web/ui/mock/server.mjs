// Serves dist/ with an API that is made up, for work on the page without a database:
//
//   npm run mock            then http://127.0.0.1:8090, any password; the name of the role chooses what it may do:
//                           admin, monitor (no payloads), consumer, producer, nothing, readonly; empty (an empty database)
//   POST /mock/away         the database is away (and back with the next call)
//   POST /mock/logout       all sessions end
import { createServer } from 'node:http';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { World, count, iso } from './data.mjs';

const dist = fileURLToPath(new URL('../dist/', import.meta.url));
const port = Number(process.env.PORT ?? 8090);
const full = new World(false);
const empty = new World(true);
let sessions = new Map();
let away = false;
setInterval(() => (full.step(), empty.step()), 1000);

const reads = ['overview', 'health', 'stream', 'jobs.list', 'jobs.get', 'queues.list', 'queues.get', 'dlq.list', 'dlq.get', 'dlq.groups', 'dlq.stats', 'schedules.list', 'cron.preview', 'tasks.list', 'retry_policies.list', 'workers.list', 'history.list', 'audit.list'];
const changes = ['jobs.enqueue', 'jobs.update', 'jobs.cancel', 'jobs.reschedule', 'jobs.run_now', 'jobs.cancel_many', 'jobs.reschedule_many', 'queues.set', 'queues.pause', 'queues.resume', 'queues.delete', 'dlq.requeue', 'dlq.update', 'dlq.delete', 'dlq.requeue_many', 'dlq.delete_many', 'dlq.cleanup', 'schedules.set', 'schedules.delete', 'schedules.run', 'tasks.delete'];
const roleRights = { admin: [...reads, ...changes], empty: [...reads, ...changes], monitor: reads.filter((id) => id !== 'audit.list'), readonly: reads, consumer: ['jobs.list', 'jobs.get', 'retry_policies.list'], producer: ['jobs.enqueue'] };
const rightsOf = (user) => Object.fromEntries([...reads, ...changes].map((id) => [id, (roleRights[user] ?? []).includes(id)]));
const sessionOf = (user) => ({ user, role: user, database: 'app', databases: ['app', 'analytics'], read_only: user === 'readonly', proxy_login: false, rights: rightsOf(user), versions: { web: '0.1.0', extension: '0.1.0', server: '15.20 (Debian 15.20-0+deb12u1)' }, idle_timeout: 1800 });

class Fault extends Error {
    constructor(status, code, message, hint = null, detail = null) {
        super(message);
        Object.assign(this, { status, code, hint, detail });
    }
}
const gone = (what) => new Fault(404, 'not_found', `there is no such ${what}`);

function page(items, name, query, total = true) {
    const limit = Number(query.get('limit') ?? 50);
    const from = Number(query.get('cursor') ?? 0);
    return { [name]: items.slice(from, from + limit), next: from + limit < items.length ? String(from + limit) : null, cut_off: false, ...(total ? { total: count(items.length) } : {}) };
}
const contains = (value, part) => (part && typeof part === 'object' ? value && Object.entries(part).every(([key, each]) => contains(value[key], each)) : value === part);
function passes(item, filter, fields) {
    return fields.every((field) => filter[field] == null || (item[field] ?? '') === filter[field]);
}
function filteredJobs(world, filter) {
    return [...world.jobs.values()].filter((job) => passes(job, filter, ['state', 'task_identifier', 'queue_name', 'job_key', 'id']) && (filter.min_priority == null || job.priority >= filter.min_priority) && (filter.max_priority == null || job.priority <= filter.max_priority) && (filter.payload == null || contains(job.payload, typeof filter.payload === 'string' ? JSON.parse(filter.payload) : filter.payload))).reverse();
}
function filteredLetters(world, filter) {
    return [...world.letters.values()].filter((letter) => passes(letter, filter, ['task_identifier', 'queue_name', 'job_key']) && (filter.sqlstate == null || (letter.last_error.sqlstate ?? '') === filter.sqlstate) && (!filter.search || letter.failure_reason.includes(filter.search)) && (!filter.failed_after || letter.failed_at >= filter.failed_after)).sort((a, b) => (a.failed_at < b.failed_at ? 1 : -1));
}
const chosen = (all, body) => (body.ids ? all.filter((item) => body.ids.includes(item.id)) : all.slice(0, body.max));
function jobOf(world, id) {
    return world.jobs.get(id) ?? (() => { throw gone('job'); })();
}
function waiting(world, id) {
    const job = jobOf(world, id);
    if (!['ready', 'scheduled'].includes(job.state)) throw new Fault(409, '55000', 'the job does not wait');
    return job;
}
function reschedule(job, { run_at, priority, attempts, max_attempts }) {
    if (run_at) Object.assign(job, { run_at: iso(Date.parse(run_at)), state: Date.parse(run_at) > Date.now() ? 'scheduled' : 'ready' });
    for (const [name, value] of Object.entries({ priority, attempts, max_attempts })) if (value != null) job[name] = value;
    return job;
}
function requeue(world, letter, { payload, notes }) {
    if (payload !== undefined) letter.payload = payload;
    if (notes !== undefined) letter.notes = notes;
    Object.assign(letter, { waiting: true, requeued_count: letter.requeued_count + 1, last_requeued_at: iso(Date.now()) });
    const job = world.newJob({ id: letter.original_job_id, task_identifier: letter.task_identifier, payload: letter.payload, queue_name: letter.queue_name, state: 'ready', attempts: 0, last_error: null });
    world.jobs.set(job.id, job);
    return letter.original_job_id;
}
function details(world, id) {
    const job = world.jobs.get(id);
    const letter = [...world.letters.values()].find((each) => each.original_job_id === id);
    const history = world.history.find((each) => each.id === id);
    const any = job ?? letter ?? history;
    if (!any) throw gone('job');
    const event = (at, name, more = {}) => ({ at, event: name, attempt: null, worker: null, error: null, outcome: null, ...more });
    const timeline = [event(job?.created_at ?? letter?.original_created_at ?? history.created_at, 'created')];
    for (let i = 1; i <= (job?.attempts ?? 0); i++) timeline.push(event(i < job.attempts ? iso(Date.parse(job.created_at) + i * 40_000) : null, 'attempt_failed', { attempt: i, worker: 'executor 41301', error: job.last_error }));
    if (letter) timeline.push(event(letter.failed_at, 'dead', { attempt: letter.failure_count, error: letter.last_error, outcome: 'dead' }));
    if (letter?.last_requeued_at) timeline.push(event(letter.last_requeued_at, 'requeued'));
    if (history) timeline.push(event(history.started_at, 'started', { attempt: history.attempts, worker: history.worker }), event(history.finished_at, 'ended', { attempt: history.attempts, error: history.error, outcome: history.outcome }));
    if (job?.state === 'running') timeline.push(event(iso(Date.now() - 9000), 'started', { attempt: job.attempts + 1, worker: job.worker }));
    if (job && ['ready', 'scheduled'].includes(job.state)) timeline.push(event(job.run_at, 'next_run', { attempt: job.attempts + 1 }));
    const why = !job ? null : job.state === 'running' ? `running: ${job.worker} has been running it since ${job.created_at}, attempt 1 of 5` : job.state === 'scheduled' ? `scheduled: it is due at ${job.run_at}` : world.queues.get(job.queue_name)?.paused ? `queue_paused: queue "${job.queue_name}" is paused: backfill.resume_queue() lets it go on` : 'ready: an executor takes it now, or at the latest after the dispatcher\'s next sweep';
    return { state: job?.state ?? (letter ? 'dead' : 'ended'), job: job ?? null, why, letter: letter ?? null, history: history ?? null, timeline };
}
function nextRuns(cron, n = 5) {
    if (cron.trim().split(/\s+/).length !== 5) throw new Fault(400, '22023', `cron expression is not valid: "${cron}"`, 'It has five fields: minute, hour, day, month and day of the week.');
    const step = cron.startsWith('*/') ? Number(cron.slice(2).split(' ')[0]) * 60_000 : 86_400_000;
    return Array.from({ length: n }, (_, i) => iso(Math.ceil(Date.now() / step) * step + i * step));
}
const withRuns = (schedule) => ({ ...schedule, next_runs: nextRuns(schedule.cron), next_run_at: nextRuns(schedule.cron)[0] });

function answer(world, user, method, path, query, body) {
    const filter = Object.fromEntries(query);
    const parts = path.split('/').slice(1).map(decodeURIComponent);
    const route = `${method} /${parts.map((part, i) => (i === 1 && !['groups', 'stats', 'cancel', 'reschedule', 'requeue', 'delete', 'cleanup', 'next'].includes(part) ? ':id' : part)).join('/')}`;
    const id = parts[1];
    const hidePayload = (job) => (user === 'monitor' ? { ...job, payload: null, last_error: job.last_error && { sqlstate: job.last_error.sqlstate }, failure_reason: null } : job);
    switch (route) {
        case 'GET /overview': return world.overview();
        case 'GET /health': return world.health();
        case 'GET /jobs': return page(filteredJobs(world, filter).map(hidePayload), 'jobs', query);
        case 'POST /jobs':
            if (!body.task_identifier) throw new Fault(422, 'invalid_field', 'field "task_identifier" must not be empty');
            return { id: world.addJob({ ...body, queue_name: body.queue_name ?? null, attempts: 0, last_error: null, state: body.run_at && Date.parse(body.run_at) > Date.now() ? 'scheduled' : 'ready', run_at: body.run_at ?? iso(Date.now()) }).id };
        case 'GET /jobs/:id': { const found = details(world, id); return user === 'monitor' ? { ...found, job: found.job && hidePayload(found.job), letter: found.letter && hidePayload(found.letter) } : found; }
        case 'PATCH /jobs/:id': return Object.assign(waiting(world, id), body);
        case 'POST /jobs/:id/cancel': world.end(jobOf(world, id), Date.now(), 'cancelled'); world.note(user, 'cancel_job', 'job', [id], null, null); return { cancelled: true };
        case 'POST /jobs/:id/run': return reschedule(waiting(world, id), { run_at: iso(Date.now()) });
        case 'POST /jobs/:id/reschedule': return reschedule(waiting(world, id), body);
        case 'POST /jobs/cancel': { const all = chosen(filteredJobs(world, body.filter ?? {}), body); for (const job of all) world.end(job, Date.now(), 'cancelled'); return { affected: all.length, more: false }; }
        case 'POST /jobs/reschedule': { const all = chosen(filteredJobs(world, body.filter ?? {}), body).filter((job) => ['ready', 'scheduled'].includes(job.state)); for (const job of all) reschedule(job, body); return { affected: all.length, more: false }; }
        case 'GET /queues': return page([...world.queues.keys()].filter((name) => !filter.search || name.includes(filter.search)).sort().map((name) => world.queueObject(name)), 'queues', query, false);
        case 'GET /queues/:id': if (!world.queues.has(id)) throw gone('queue'); return world.queueObject(id);
        case 'PUT /queues/:id': world.queues.set(id, { ...(world.queues.get(id) ?? { queue_name: id, paused: false, automatic: false }), concurrency: null, rate_limit: null, rate_period: null, max_depth: null, ...body }); return world.queueObject(id);
        case 'POST /queues/:id/pause': world.queues.get(id).paused = true; world.note(user, 'pause_queue', 'queue', [id], null, null); return world.queueObject(id);
        case 'POST /queues/:id/resume': world.queues.get(id).paused = false; return world.queueObject(id);
        case 'DELETE /queues/:id': if (world.queueObject(id).ready.count) throw new Fault(409, '55006', `queue "${id}" has jobs`, 'Cancel them, or wait until they are done.'); world.queues.delete(id); return undefined;
        case 'GET /dlq': return page(filteredLetters(world, filter).map(hidePayload), 'letters', query);
        case 'GET /dlq/groups': {
            const groups = new Map();
            for (const letter of world.letters.values()) {
                const key = `${letter.task_identifier} ${letter.last_error.sqlstate}`;
                const group = groups.get(key) ?? { task_identifier: letter.task_identifier, sqlstate: letter.last_error.sqlstate, letters: count(0), oldest: letter.failed_at, newest: letter.failed_at, sample: letter.failure_reason };
                group.letters.count++;
                if (letter.failed_at < group.oldest) group.oldest = letter.failed_at;
                if (letter.failed_at > group.newest) group.newest = letter.failed_at;
                groups.set(key, group);
            }
            return { groups: [...groups.values()].sort((a, b) => b.letters.count - a.letters.count), cut_off: false };
        }
        case 'GET /dlq/:id': return hidePayload(world.letters.get(id) ?? (() => { throw gone('dead letter'); })());
        case 'PATCH /dlq/:id': return Object.assign(world.letters.get(id), body);
        case 'POST /dlq/:id/requeue': return { job_id: requeue(world, world.letters.get(id), body ?? {}) };
        case 'DELETE /dlq/:id': world.letters.delete(id); return undefined;
        case 'POST /dlq/requeue': { const all = chosen(filteredLetters(world, body.filter ?? {}), body); for (const letter of all) requeue(world, letter, { notes: body.notes }); return { affected: all.length, more: false }; }
        case 'POST /dlq/delete': { const all = chosen(filteredLetters(world, body.filter ?? {}), body); for (const letter of all) world.letters.delete(letter.id); return { affected: all.length, more: false }; }
        case 'GET /schedules': return { schedules: [...world.schedules.values()].map(withRuns) };
        case 'PUT /schedules/:id': nextRuns(body.cron); world.schedules.set(id, { name: id, queue_name: null, priority: null, max_attempts: null, job_key: null, retry_policy: null, timeout: null, fill: 0, max_catchup: 1000, catchup: 'all', time_zone: 'UTC', last_run_at: null, last_error: null, scheduled_by: user, ...body }); return withRuns(world.schedules.get(id));
        case 'DELETE /schedules/:id': world.schedules.delete(id); return undefined;
        case 'POST /schedules/:id/run': { const schedule = world.schedules.get(id); return { id: world.addJob({ task_identifier: schedule.task_identifier, payload: schedule.payload, state: 'ready', attempts: 0, last_error: null }).id }; }
        case 'GET /cron/next': return { next: nextRuns(query.get('cron')) };
        case 'GET /tasks': return page(world.taskObjects().filter((task) => (!filter.search || task.task_identifier.includes(filter.search)) && (filter.problem_only !== 'true' || task.problem)), 'tasks', query, false);
        case 'DELETE /tasks/:id': return undefined;
        case 'GET /retry-policies': return { retry_policies: ['aggressive', 'conservative', 'default', 'fast', 'graphile'].map((policy_name) => ({ policy_name })) };
        case 'GET /workers': return { workers: world.workers };
        case 'GET /history': return page(world.history.filter((job) => passes(job, filter, ['outcome', 'task_identifier', 'queue_name', 'job_key'])), 'history', query, false);
        case 'GET /audit': return page(world.audit.filter((entry) => passes(entry, filter, ['actor', 'action'])), 'entries', query, false);
        default: throw new Fault(404, 'no_route', 'there is no such route');
    }
}

function stream(world, response) {
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    const send = (event, data) => response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
    send('backlog', { points: world.points });
    send('health', world.health());
    const tick = () => (away ? send('gone', { error: 'connection to server was lost' }) : send('sample', world.overview()));
    tick();
    const timer = setInterval(tick, 1000);
    response.on('close', () => clearInterval(timer));
}

const types = { html: 'text/html; charset=utf-8', js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml' };
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
function asset(path, response) {
    const name = path.startsWith('/assets/') ? path.slice(8) : 'index.html';
    if (name.includes('/') || !existsSync(dist + name)) return response.writeHead(404).end();
    response.writeHead(200, { 'Content-Type': types[name.split('.').at(-1)], 'Content-Security-Policy': policy, 'Cache-Control': 'no-cache' }).end(readFileSync(dist + name));
}

async function handle(request, response) {
    const { pathname, searchParams } = new URL(request.url, 'http://localhost');
    if (pathname === '/mock/away') return (away = !away), response.end(String(away));
    if (pathname === '/mock/logout') return (sessions = new Map()), response.end();
    if (!pathname.startsWith('/api/v1')) return asset(pathname, response);
    const path = pathname.slice(7);
    const key = /backfill_session=(\w+)/.exec(request.headers.cookie ?? '')?.[1];
    const user = sessions.get(key);
    const json = (status, value, headers = {}) => response.writeHead(status, { 'Content-Type': 'application/json', ...headers }).end(value === undefined ? '' : JSON.stringify(value));
    try {
        let text = '';
        for await (const chunk of request) text += chunk;
        const body = text ? JSON.parse(text) : undefined;
        if (path === '/login') {
            if (body.password === 'wrong') throw new Fault(401, '28P01', 'the name or the password is wrong, or the role may not log in');
            const fresh = Math.random().toString(36).slice(2);
            sessions.set(fresh, body.user);
            return json(200, sessionOf(body.user), { 'Set-Cookie': `backfill_session=${fresh}; HttpOnly; SameSite=Strict; Path=/` });
        }
        if (!user) throw new Fault(401, 'no_session', 'log in first');
        if (path === '/session') return json(200, sessionOf(user));
        if (path === '/logout') return sessions.delete(key), json(204);
        if (away && path !== '/stream') throw new Fault(503, '08006', 'the database is away: connection refused', 'It is tried again with the next call.');
        const world = user === 'empty' || searchParams.get('database') === 'analytics' ? empty : full;
        searchParams.delete('database');
        if (path === '/stream') return stream(world, response);
        const found = answer(world, user, request.method, path, searchParams, body);
        json(found === undefined ? 204 : path === '/jobs' && request.method === 'POST' ? 201 : 200, found);
    } catch (error) {
        json(error.status ?? 500, { error: error.message, code: error.code ?? 'XX000', timestamp: new Date().toISOString(), detail: error.detail ?? null, hint: error.hint ?? null });
    }
}

createServer(handle).listen(port, '127.0.0.1', () => console.log(`http://127.0.0.1:${port}`));

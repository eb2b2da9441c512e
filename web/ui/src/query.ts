// Filters live in the address, so that a link shows the same list wherever it is opened. Pure functions; tested in test/query.test.ts.

export const jobFilters = [
    'state',
    'task_identifier',
    'queue_name',
    'job_key',
    'min_priority',
    'max_priority',
    'payload',
    'id',
] as const;
export const letterFilters = [
    'task_identifier',
    'queue_name',
    'sqlstate',
    'job_key',
    'search',
    'failed_after',
    'failed_before',
] as const;
export const historyFilters = [
    'outcome',
    'task_identifier',
    'queue_name',
    'job_key',
    'finished_after',
    'finished_before',
] as const;
export const auditFilters = ['actor', 'action', 'object', 'after', 'before'] as const;

/** An empty text filters what has none of these, so it must not be dropped. */
const mayBeEmpty = new Set(['queue_name', 'sqlstate']);

/** The filters that the address holds, by their names in the API. */
export function readFilter(query: URLSearchParams, names: readonly string[]): Record<string, string> {
    const filter: Record<string, string> = {};
    for (const name of names) {
        const value = query.get(name);
        if (value != null && (value !== '' || mayBeEmpty.has(name))) filter[name] = value;
    }
    return filter;
}

/** The same address with other parameters; null removes one. A change of a filter leads back to the first page. */
export function withParams(query: URLSearchParams, changes: Record<string, string | null>): URLSearchParams {
    const result = new URLSearchParams(query);
    if (!('cursor' in changes)) result.delete('cursor');
    for (const [name, value] of Object.entries(changes))
        if (value == null) result.delete(name);
        else result.set(name, value);
    return result;
}

/** The object "filter" of calls that act on all that is shown. Numbers are numbers there, JSON is JSON (as a text that is sent as it is). */
export function filterForBody(filter: Record<string, string>, raw: (text: string) => unknown): Record<string, unknown> {
    const body: Record<string, unknown> = {};
    for (const [name, value] of Object.entries(filter))
        body[name] =
            name === 'min_priority' || name === 'max_priority'
                ? Number(value)
                : name === 'payload'
                  ? raw(value)
                  : value;
    return body;
}

export interface Suggestion {
    label: string;
    detail: string;
    path: string;
    params?: Record<string, string>;
    right: string;
}

/** What a text in the search box may mean. */
export function suggest(text: string): Suggestion[] {
    const input = text.trim();
    if (!input) return [];
    const found: Suggestion[] = [];
    if (/^\d{1,19}$/.test(input)) {
        found.push({ label: `Job ${input}`, detail: 'by its id', path: `/jobs/${input}`, right: 'jobs.get' });
        found.push({ label: `Dead letter ${input}`, detail: 'by its id', path: `/dlq/${input}`, right: 'dlq.get' });
    }
    if (/^[{["]/.test(input)) {
        try {
            JSON.parse(input);
            found.push({
                label: input,
                detail: 'jobs whose payload contains this',
                path: '/jobs',
                params: { payload: input },
                right: 'jobs.list',
            });
        } catch {
            found.push({ label: input, detail: 'goes on as JSON: a payload that jobs contain', path: '', right: '' });
        }
        return found;
    }
    if (/^[0-9A-Z]{5}$/.test(input))
        found.push({
            label: input,
            detail: 'dead letters with this SQLSTATE',
            path: '/dlq',
            params: { sqlstate: input },
            right: 'dlq.list',
        });
    found.push({
        label: input,
        detail: 'jobs of this task',
        path: '/jobs',
        params: { task_identifier: input },
        right: 'jobs.list',
    });
    found.push({
        label: input,
        detail: 'jobs with this key',
        path: '/jobs',
        params: { job_key: input },
        right: 'jobs.list',
    });
    found.push({
        label: input,
        detail: 'jobs in this queue',
        path: '/jobs',
        params: { queue_name: input },
        right: 'jobs.list',
    });
    found.push({
        label: input,
        detail: 'dead letters whose reason contains this',
        path: '/dlq',
        params: { search: input },
        right: 'dlq.list',
    });
    found.push({
        label: input,
        detail: 'queues with this in their name',
        path: '/queues',
        params: { search: input },
        right: 'queues.list',
    });
    found.push({
        label: input,
        detail: 'tasks with this in their name',
        path: '/tasks',
        params: { search: input },
        right: 'tasks.list',
    });
    return found;
}

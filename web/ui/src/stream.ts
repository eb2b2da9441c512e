// The live figures: one stream of Server-Sent Events, which the server feeds for all tabs. It is closed while the tab is
// hidden, because a browser opens few connections to one server and every tab would hold one.
import { effect, signal } from '@preact/signals';
import { sessionEnded } from './api';
import { hearServerTime, visible } from './clock';
import { parseTime } from './format';
import { paused } from './prefs';
import { database, loadSession, may, session } from './session';
import type { Health, Sample } from './types';

export const sample = signal<Sample | undefined>(undefined);
export const health = signal<Health | undefined>(undefined);
/** live; waiting: it is being opened (again); gone: the server has it, but not the database. */
export const streamState = signal<'off' | 'waiting' | 'live' | 'gone'>('off');
/** Why the database is away. */
export const goneReason = signal('');
/** Changes with every point. */
export const pointsVersion = signal(0);

const keep = 3600;
/** Columns: seconds since 1970, ready jobs, enqueued, completed and failed per second, p95 of wait and of run in seconds. */
export const points: (number | null)[][] = Array.from({ length: 7 }, () => []);

function addPoint(values: (number | null)[]): void {
    const time = points[0]!;
    if (values[0]! <= (time.at(-1) ?? 0)) return;
    // A gap in the times is shown as a gap, not as a line.
    if (time.length && values[0]! - time.at(-1)! > 5) push([time.at(-1)! + 1, null, null, null, null, null, null]);
    push(values);
}

function push(values: (number | null)[]): void {
    for (const [i, column] of points.entries()) {
        column.push(values[i] ?? null);
        if (column.length > keep) column.shift();
    }
}

function onBacklog(text: string): void {
    for (const column of points) column.length = 0;
    for (const point of (JSON.parse(text) as { points: (number | null)[][] }).points)
        addPoint([point[0]! / 1000, ...point.slice(1)]);
    pointsVersion.value++;
}

function onSample(text: string): void {
    const found = JSON.parse(text) as Sample;
    const at = parseTime(found.at) ?? Date.now();
    hearServerTime(at);
    addPoint([
        at / 1000,
        found.jobs.ready.count,
        found.rates?.enqueued ?? null,
        found.rates?.completed ?? null,
        found.rates?.failed ?? null,
        found.wait_p95,
        found.run_p95,
    ]);
    pointsVersion.value++;
    streamState.value = 'live';
    if (!paused.peek()) sample.value = found;
}

let source: EventSource | undefined;
let retry: ReturnType<typeof setTimeout> | undefined;
let failures = 0;

function open(): void {
    const name = database.peek();
    source = new EventSource(`/api/v1/stream${name ? `?database=${encodeURIComponent(name)}` : ''}`);
    if (streamState.peek() !== 'gone') streamState.value = 'waiting';
    const on = (event: string, react: (data: string) => void) =>
        source!.addEventListener(event, (message) => {
            failures = 0;
            react((message as MessageEvent<string>).data);
        });
    on('backlog', onBacklog);
    on('sample', onSample);
    on('health', (data) => {
        health.value = JSON.parse(data) as Health;
    });
    on('gone', (data) => {
        streamState.value = 'gone';
        goneReason.value = ((JSON.parse(data) as { error?: string }).error ?? '').replace(
            /^the database is away: /,
            '',
        );
    });
    source.onerror = () => {
        close();
        // EventSource does not tell a status: a session that has ended is noticed by asking for it.
        if (++failures % 2 === 1) void loadSession(true);
        const delay = Math.min(15_000, 500 * 2 ** failures) * (0.75 + Math.random() / 2);
        retry = setTimeout(() => visible.peek() && !sessionEnded.peek() && open(), delay);
        if (streamState.peek() !== 'gone') streamState.value = 'waiting';
    };
}

function close(): void {
    clearTimeout(retry);
    source?.close();
    source = undefined;
}

export function startStream(): void {
    let shown = '';
    let hiding: ReturnType<typeof setTimeout> | undefined;
    effect(() => {
        const wanted =
            session.value && !sessionEnded.value && may('stream') ? `${session.value.user} ${database.value}` : '';
        const inSight = visible.value;
        clearTimeout(hiding);
        if (wanted !== shown) {
            close();
            shown = wanted;
            sample.value = health.value = undefined;
            for (const column of points) column.length = 0;
            streamState.value = wanted ? 'waiting' : 'off';
        }
        if (!wanted) return;
        if (inSight) {
            if (!source) {
                clearTimeout(retry);
                failures = 0;
                open();
            }
        } else {
            // A short look at another tab does not break the stream.
            hiding = setTimeout(close, 10_000);
        }
    });
}

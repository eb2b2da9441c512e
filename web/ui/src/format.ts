// How numbers, times and names are shown. Pure functions; tested in test/format.test.ts.
import type { Count } from './types';

const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

export function number(value: number | string): string {
    // A string is a number of 64 bits, which may be too large for a double.
    return typeof value === 'string' ? value.replace(/\B(?=(\d{3})+$)/g, ',') : whole.format(value);
}

export function count(value: Count | number | null | undefined): string {
    if (value == null) return '–';
    if (typeof value === 'number') return number(value);
    return number(value.count) + (value.capped ? '+' : '');
}

export function plural(n: number, one: string, many = one + 's'): string {
    return `${number(n)} ${n === 1 ? one : many}`;
}

/** For axes and small figures: 950, 1.2k, 35k, 1.1M. */
export function compact(value: number): string {
    const size = Math.abs(value);
    for (const [limit, unit] of [
        [1e9, 'G'],
        [1e6, 'M'],
        [1e3, 'k'],
    ] as const)
        if (size >= limit * 0.9995) return trimmed(value / limit, size >= limit * 10 ? 0 : 1) + unit;
    return trimmed(value, size >= 10 || Number.isInteger(value) ? 0 : size >= 1 ? 1 : 2);
}

function trimmed(value: number, digits: number): string {
    return value
        .toFixed(digits)
        .replace(/(\.\d*?)0+$/, '$1')
        .replace(/\.$/, '');
}

/** Seconds, with the two largest units: 35 ms, 4.2 s, 3 min 5 s, 2 h 10 min, 3 d 4 h. */
export function duration(seconds: number | null | undefined): string {
    if (seconds == null || !Number.isFinite(seconds)) return '–';
    const s = Math.abs(seconds);
    if (s === 0) return '0 s';
    if (s < 0.001) return '< 1 ms';
    if (s < 0.9995) return `${trimmed(s * 1000, s < 0.01 ? 1 : 0)} ms`;
    if (s < 9.95) return `${trimmed(s, 1)} s`;
    const units = [
        ['d', 86400],
        ['h', 3600],
        ['min', 60],
        ['s', 1],
    ] as const;
    let rest = Math.round(s);
    const parts: string[] = [];
    for (const [i, [unit, size]] of units.entries()) {
        const n = Math.floor(rest / size);
        rest -= n * size;
        if (n) parts.push(`${n} ${unit}`);
        if (parts.length === 2 || (parts.length === 1 && i > 0 && !n)) break;
    }
    return parts.join(' ');
}

/** "3 min ago", "in 2 h"; coarse, because the exact time is shown beside it or in a title. */
export function relative(at: number, now: number): string {
    const seconds = Math.round((now - at) / 1000);
    if (Math.abs(seconds) < 2) return 'now';
    const s = Math.abs(seconds);
    const text =
        s < 60
            ? `${s} s`
            : s < 3600
              ? `${Math.floor(s / 60)} min`
              : s < 86400
                ? `${Math.floor(s / 3600)} h`
                : `${number(Math.floor(s / 86400))} d`;
    return seconds > 0 ? `${text} ago` : `in ${text}`;
}

/** Milliseconds of a timestamp; Infinity for what PostgreSQL calls infinity; nothing if it is none. */
export function parseTime(text: string | null | undefined): number | undefined {
    if (!text) return undefined;
    if (text === 'infinity') return Infinity;
    if (text === '-infinity') return -Infinity;
    const ms = Date.parse(text);
    return Number.isNaN(ms) ? undefined : ms;
}

const formats = new Map<string, Intl.DateTimeFormat>();

function partsIn(ms: number, zone: string | undefined): Record<string, string> {
    const key = zone ?? '';
    let format = formats.get(key);
    if (!format) {
        format = new Intl.DateTimeFormat('en-GB', {
            timeZone: zone,
            hourCycle: 'h23',
            weekday: 'short',
            year: 'numeric',
            month: '2-digit',
            day: '2-digit',
            hour: '2-digit',
            minute: '2-digit',
            second: '2-digit',
            timeZoneName: 'short',
        });
        formats.set(key, format);
    }
    return Object.fromEntries(format.formatToParts(ms).map((part) => [part.type, part.value]));
}

/** 2026-08-04 13:05:09 in a zone (undefined: the browser's); PostgreSQL knows zones that browsers do not, then UTC is used. */
export function dateTime(ms: number, zone?: string, withSeconds = true): string {
    if (!Number.isFinite(ms)) return ms > 0 ? 'never (infinity)' : '-infinity';
    try {
        const p = partsIn(ms, zone);
        return `${p.year}-${p.month}-${p.day} ${p.hour}:${p.minute}${withSeconds ? `:${p.second}` : ''}`;
    } catch {
        return `${dateTime(ms, 'UTC', withSeconds)} UTC`;
    }
}

/** The same with day of the week and zone: what a title says. */
export function fullTime(ms: number, zone?: string): string {
    if (!Number.isFinite(ms)) return dateTime(ms);
    const p = partsIn(ms, zone);
    return `${p.weekday} ${dateTime(ms, zone)}.${String(Math.floor(((ms % 1000) + 1000) % 1000)).padStart(3, '0')} ${p.timeZoneName}`;
}

/** Tue 2026-08-04 13:05: what a list of due times needs. */
export function dueTime(ms: number, zone?: string): string {
    try {
        return `${partsIn(ms, zone).weekday} ${dateTime(ms, zone, false)}`;
    } catch {
        return dateTime(ms, zone, false);
    }
}

/** For an input of type datetime-local, and back. */
export function toLocalInput(ms: number, utc: boolean): string {
    return dateTime(ms, utc ? 'UTC' : undefined).replace(' ', 'T');
}

export function fromLocalInput(text: string, utc: boolean): string | undefined {
    if (!text) return undefined;
    const ms = Date.parse(utc ? `${text}Z` : text);
    return Number.isNaN(ms) ? undefined : new Date(ms).toISOString();
}

export function bytes(n: number): string {
    return n < 1000
        ? `${n} B`
        : n < 999_500
          ? `${trimmed(n / 1000, n < 9950 ? 1 : 0)} kB`
          : `${trimmed(n / 1e6, 1)} MB`;
}

export function percent(fraction: number): string {
    return `${Math.floor(Math.min(Math.max(fraction, 0), 1) * 100)} %`;
}

/** "queue_full: queue mail runs 2 jobs" as its code and its text. */
export function splitWhy(why: string): { code: string; text: string } {
    const match = /^([a-z_]+): ([^]*)$/.exec(why);
    return match ? { code: match[1]!, text: match[2]! } : { code: '', text: why };
}

/** "worker_slots" as "worker slots". */
export function words(name: string): string {
    return name.replaceAll('_', ' ');
}

const conditions: Record<string, string> = {
    '08006': 'connection failure',
    '0A000': 'feature not supported',
    '21000': 'cardinality violation',
    '22001': 'string too long',
    '22003': 'number out of range',
    '22012': 'division by zero',
    '22023': 'invalid parameter value',
    '22P02': 'invalid text representation',
    '23502': 'not null violation',
    '23503': 'foreign key violation',
    '23505': 'unique violation',
    '23514': 'check violation',
    '23P01': 'exclusion violation',
    '25006': 'read-only transaction',
    '28000': 'invalid authorization',
    '40001': 'serialization failure',
    '40P01': 'deadlock detected',
    '42501': 'insufficient privilege',
    '42601': 'syntax error',
    '42703': 'undefined column',
    '42704': 'undefined object',
    '42883': 'undefined function',
    '42P01': 'undefined table',
    '53100': 'disk full',
    '53200': 'out of memory',
    '53300': 'too many connections',
    '54001': 'statement too complex',
    '55000': 'not in prerequisite state',
    '55P03': 'lock not available',
    '57014': 'query cancelled',
    '57P01': 'admin shutdown',
    P0001: 'raised exception',
    P0002: 'no data found',
    P0004: 'assertion failed',
    XX000: 'internal error',
};

/** The name of a SQLSTATE, if it is one of those that jobs meet. */
export function conditionName(sqlstate: string | null | undefined): string {
    return (sqlstate && conditions[sqlstate]) || '';
}

// The smallest parts: states, times, names, progress, copying.
import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { now } from '../clock';
import { count, dateTime, fullTime, parseTime, percent, relative } from '../format';
import { timeZone } from '../prefs';
import { href, segment } from '../router';
import { may } from '../session';
import type { Count } from '../types';
import { Icon, type IconName } from './icons';

/** Each state has a colour, a shape and its name. */
const states: Record<string, { icon: IconName; tone: string; filled?: boolean }> = {
    scheduled: { icon: 'clock', tone: 'later' },
    ready: { icon: 'ready', tone: 'ready' },
    running: { icon: 'play', tone: 'good', filled: true },
    leased: { icon: 'leased', tone: 'lease' },
    dead: { icon: 'cross', tone: 'bad' },
    ended: { icon: 'check', tone: 'calm' },
    completed: { icon: 'check', tone: 'good' },
    discarded: { icon: 'minus', tone: 'calm' },
    cancelled: { icon: 'slash', tone: 'calm' },
    superseded: { icon: 'skip', tone: 'calm' },
    waiting: { icon: 'again', tone: 'ready' },
    paused: { icon: 'pause', tone: 'warn' },
    ok: { icon: 'ok', tone: 'good' },
    warning: { icon: 'warning', tone: 'warn' },
    critical: { icon: 'critical', tone: 'bad' },
    idle: { icon: 'ready', tone: 'calm' },
    unregistered: { icon: 'warning', tone: 'warn' },
    retried: { icon: 'again', tone: 'warn' },
};

export function State({ name, label }: { name: string; label?: string }) {
    const { icon, tone, filled } = states[name] ?? { icon: 'info', tone: 'calm' };
    return (
        <span class={`state tone-${tone}`} data-state={name}>
            <Icon name={icon} filled={filled} />
            {label ?? name}
        </span>
    );
}

interface TimeProps {
    at: string | null | undefined;
    /** Show the time itself, and how long ago in the title. */ exact?: boolean;
    none?: string;
}

export function Time({ at, exact, none = '–' }: TimeProps) {
    const ms = parseTime(at);
    if (ms === undefined) return <span class="quiet">{none}</span>;
    if (!Number.isFinite(ms)) return <span>{dateTime(ms)}</span>;
    const passed = relative(ms, now.value);
    const full = fullTime(ms, timeZone());
    return (
        <time dateTime={new Date(ms).toISOString()} title={exact ? passed : full} class="time">
            {exact ? dateTime(ms, timeZone()) : passed}
        </time>
    );
}

/** "2026-08-04 13:05:09, 3 min ago" */
export function LongTime({ at, none = '–' }: TimeProps) {
    const ms = parseTime(at);
    if (ms === undefined || !Number.isFinite(ms)) return <Time at={at} none={none} />;
    return (
        <time dateTime={new Date(ms).toISOString()} title={fullTime(ms, timeZone())} class="time">
            {dateTime(ms, timeZone())} <span class="quiet">{relative(ms, now.value)}</span>
        </time>
    );
}

/** A long text on one line; the title has all of it. */
export function Cut({ text, class: extra = '' }: { text: string; class?: string }) {
    return (
        <span class={`cut ${extra}`} title={text}>
            {text}
        </span>
    );
}

export function None({ children = '–' }: { children?: ComponentChildren }) {
    return <span class="quiet">{children}</span>;
}

export function JobLink({ id, label }: { id: string; label?: string }) {
    return may('jobs.get') ? (
        <a class="mono" href={href(`/jobs/${id}`)}>
            {label ?? id}
        </a>
    ) : (
        <span class="mono">{label ?? id}</span>
    );
}

export function TaskName({ name }: { name: string }) {
    return may('jobs.list') ? (
        <a class="name cut" href={href('/jobs', { task_identifier: name })} title={`${name}: show its jobs`}>
            {name}
        </a>
    ) : (
        <Cut text={name} class="name" />
    );
}

export function QueueName({ name }: { name: string | null | undefined }) {
    if (!name) return <None>none</None>;
    return may('queues.get') ? (
        <a class="name cut" href={href(`/queues/${segment(name)}`)} title={name}>
            {name}
        </a>
    ) : (
        <Cut text={name} class="name" />
    );
}

const bands: Record<string, string> = {
    EMERGENCY: 'Emergency',
    FAST_HIGH: 'Fast high',
    FAST_DEFAULT: 'Fast',
    BULK_DEFAULT: 'Bulk',
    BULK_LOW: 'Bulk low',
    BULK_LOWEST: 'Bulk lowest',
};
export const bandName = (band: string) => bands[band.toUpperCase()] ?? band;

export function Priority({ value, band }: { value: number; band?: string }) {
    return (
        <span title={band ? `${bandName(band)}; smaller runs first` : 'smaller runs first'} class="num">
            {value > 0 ? value : String(value).replace('-', '−')}
        </span>
    );
}

export function Counted({ value }: { value: Count | number | null | undefined }) {
    const isZero = value != null && (typeof value === 'number' ? value === 0 : value.count === 0);
    return (
        <span
            class={isZero ? 'num quiet' : 'num'}
            title={
                typeof value === 'object' && value?.capped
                    ? 'at least this number; it is not counted further'
                    : undefined
            }
        >
            {count(value)}
        </span>
    );
}

/** A job's progress, 0 to 1. */
export function Progress({
    value,
    message,
    label,
    brief,
}: {
    value: number | null | undefined;
    message?: string | null;
    label: string;
    /** On one line: the message is in the title only. */
    brief?: boolean;
}) {
    if (value == null) return message ? <Cut text={message} class="quiet" /> : null;
    const text = percent(value);
    return (
        <div class="progress-box" title={message ?? text}>
            <div
                class="progress"
                role="progressbar"
                aria-label={label}
                aria-valuemin={0}
                aria-valuemax={100}
                aria-valuenow={Math.floor(value * 100)}
                aria-valuetext={message ? `${text}, ${message}` : text}
            >
                <div class="progress-bar" style={{ width: `${Math.min(Math.max(value, 0), 1) * 100}%` }} />
            </div>
            <span class="num">{text}</span>
            {message && !brief && <span class="progress-text cut">{message}</span>}
        </div>
    );
}

export function CopyButton({ text, label = 'Copy' }: { text: string; label?: string }) {
    const [done, setDone] = useState(false);
    const copy = async () => {
        try {
            await navigator.clipboard.writeText(text);
        } catch {
            // Without TLS there is no clipboard for pages of other hosts than localhost.
            const area = document.createElement('textarea');
            area.value = text;
            document.body.append(area);
            area.select();
            document.execCommand('copy');
            area.remove();
        }
        setDone(true);
        setTimeout(() => setDone(false), 1500);
    };
    return (
        <button type="button" class="icon-button" title={label} aria-label={label} onClick={copy}>
            <Icon name={done ? 'check' : 'copy'} />
            <span class="unseen" role="status">
                {done ? 'Copied' : ''}
            </span>
        </button>
    );
}

export function Code({ text, label = 'Copy the SQL' }: { text: string; label?: string }) {
    return (
        <div class="code">
            <pre tabIndex={0}>{text}</pre>
            <CopyButton text={text} label={label} />
        </div>
    );
}

/** Names and values, below each other. */
export function Facts({ items }: { items: [string, ComponentChildren][] }) {
    return (
        <dl class="facts">
            {items.map(([name, value]) => (
                <div key={name}>
                    <dt>{name}</dt>
                    <dd>{value ?? <None />}</dd>
                </div>
            ))}
        </dl>
    );
}

export function Panel({
    title,
    tools,
    children,
    class: extra = '',
    id,
}: {
    title: ComponentChildren;
    tools?: ComponentChildren;
    children: ComponentChildren;
    class?: string;
    id?: string;
}) {
    return (
        <section class={`panel ${extra}`} aria-labelledby={id && `${id}-title`} data-testid={id}>
            <header class="panel-head">
                <h2 id={id && `${id}-title`}>{title}</h2>
                {tools}
            </header>
            {children}
        </section>
    );
}

/** An empty list says what to do next. */
export function Empty({
    title,
    children,
    icon = 'info',
}: {
    title: string;
    children?: ComponentChildren;
    icon?: IconName;
}) {
    return (
        <div class="empty" data-testid="empty">
            <Icon name={icon} />
            <p class="empty-title">{title}</p>
            {children}
        </div>
    );
}

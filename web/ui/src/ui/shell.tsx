// What is around every page: the menu, the bar above, banners, notices.
import type { ComponentChildren, RefObject } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { useSignal } from '@preact/signals';
import { serverAway } from '../api';
import { count, dateTime, number, parseTime } from '../format';
import { findOpen, helpOpen, pages } from '../keys';
import { dismiss, notices } from '../notices';
import { paused, theme, timeZone, zone, type Theme } from '../prefs';
import { href, path } from '../router';
import { database, logOut, may, session, sessionProblem } from '../session';
import { goneReason, health, sample, streamState } from '../stream';
import { QuestionDialog } from './dialog';
import { EnqueueDialog } from '../pages/enqueue';
import { Find } from './find';
import { Help } from './help';
import { Icon } from './icons';

export function Logo() {
    return (
        <svg class="logo" viewBox="0 0 32 32" aria-hidden="true">
            <rect class="logo-ground" width="32" height="32" rx="7" />
            <path class="logo-pit" d="M7 8v13a4 4 0 0 0 4 4h10a4 4 0 0 0 4-4V8" />
            <rect class="logo-job" x="11" y="18.5" width="10" height="3" rx="1.2" />
            <rect class="logo-job" x="11" y="13.4" width="10" height="3" rx="1.2" />
            <rect class="logo-next" x="11" y="8.3" width="6" height="3" rx="1.2" />
        </svg>
    );
}

/** Small figures beside the menu's entries. */
function Badge({ page }: { page: string }) {
    const seen = sample.value;
    if (!seen) return null;
    const jobs = seen.jobs;
    if (page === '/jobs')
        return (
            <span class="badge">
                {count({
                    count: jobs.ready.count + jobs.scheduled.count + jobs.running + jobs.leased,
                    capped: jobs.ready.capped || jobs.scheduled.capped,
                })}
            </span>
        );
    if (page === '/dlq' && jobs.dead.count) return <span class="badge badge-bad">{count(jobs.dead)}</span>;
    if (page === '/workers') return <span class="badge">{number(seen.workers.length)}</span>;
    const state = health.value?.status;
    if (page === '/' && state && state !== 'ok')
        return (
            <span class={`badge badge-${state}`} title={`Health: ${state}`}>
                <Icon name={state} />
                <span class="unseen">{state}</span>
            </span>
        );
    return null;
}

function Menu({ onPick }: { onPick: () => void }) {
    const at = path.value;
    return (
        <ul>
            {pages
                .filter((page) => may(page.right) || (page.path === '/jobs' && may('jobs.enqueue')))
                .map((page) => {
                    const isHere = page.path === '/' ? at === '/' : at === page.path || at.startsWith(`${page.path}/`);
                    return (
                        <li key={page.path}>
                            <a
                                href={href(page.path)}
                                aria-current={isHere ? 'page' : undefined}
                                title={`g ${page.key}`}
                                onClick={onPick}
                            >
                                <Icon name={page.icon} />
                                {page.name}
                                <Badge page={page.path} />
                            </a>
                        </li>
                    );
                })}
        </ul>
    );
}

function Live() {
    const state = serverAway.value ? 'away' : paused.value ? 'paused' : streamState.value;
    const text = {
        off: 'Refreshing',
        waiting: 'Connecting',
        live: 'Live',
        gone: 'Away',
        away: 'Away',
        paused: 'Paused',
    }[state];
    return (
        <button
            type="button"
            class={`live live-${state}`}
            aria-pressed={paused.value}
            data-testid="live"
            title={
                paused.value
                    ? 'Nothing is refreshed. Click to go on.'
                    : 'Lists and figures are refreshed by themselves. Click to hold them still.'
            }
            onClick={() => (paused.value = !paused.value)}
        >
            <span class="live-mark" aria-hidden="true">
                {state === 'paused' ? (
                    <Icon name="pause" />
                ) : state === 'away' || state === 'gone' ? (
                    <Icon name="warning" />
                ) : (
                    <span class="live-dot" />
                )}
            </span>
            <span class="live-text">{text}</span>
        </button>
    );
}

const themes: Theme[] = ['auto', 'light', 'dark'];
const themeIcon = { auto: 'auto', light: 'sun', dark: 'moon' } as const;

function Choices() {
    return (
        <>
            <button
                type="button"
                class="icon-button zone"
                title="Times are shown in this zone; click for the other"
                aria-label={`Times: ${zone.value === 'utc' ? 'UTC' : 'local'}`}
                data-testid="zone"
                onClick={() => (zone.value = zone.value === 'utc' ? 'local' : 'utc')}
            >
                {zone.value === 'utc' ? 'UTC' : 'Local'}
            </button>
            <button
                type="button"
                class="icon-button"
                title={`Colours: ${theme.value === 'auto' ? 'as the system has them' : theme.value}; click for the next`}
                aria-label={`Colours: ${theme.value}`}
                data-testid="theme"
                onClick={() => (theme.value = themes[(themes.indexOf(theme.value) + 1) % themes.length]!)}
            >
                <Icon name={themeIcon[theme.value]} />
            </button>
        </>
    );
}

function DatabaseSwitch() {
    const known = session.value!;
    if (known.databases.length < 2)
        return (
            <span class="database" title="Database">
                <Icon name="database" /> <span class="cut">{database.value}</span>
            </span>
        );
    return (
        <label class="database">
            <Icon name="database" />
            <span class="unseen">Database</span>
            <select
                value={database.value}
                data-testid="database"
                onChange={(event) => {
                    // Objects of one database are not in another, so lists stay and single objects do not.
                    const page =
                        pages.find((each) => each.path !== '/' && path.value.startsWith(each.path))?.path ?? '/';
                    location.assign(`${page}?database=${encodeURIComponent(event.currentTarget.value)}`);
                }}
            >
                {known.databases.map((name) => (
                    <option key={name} value={name}>
                        {name}
                    </option>
                ))}
            </select>
        </label>
    );
}

function UserMenu() {
    const known = session.value!;
    const box = useRef<HTMLDetailsElement>(null);
    useEffect(() => {
        const close = (event: Event) => {
            const isEsc = event instanceof KeyboardEvent && event.key === 'Escape';
            if (
                box.current?.open &&
                (isEsc || (event.type === 'click' && !box.current.contains(event.target as Node)))
            ) {
                box.current.open = false;
                if (isEsc) box.current.querySelector('summary')!.focus();
            }
        };
        document.addEventListener('click', close);
        document.addEventListener('keydown', close);
        return () => {
            document.removeEventListener('click', close);
            document.removeEventListener('keydown', close);
        };
    }, []);
    const { versions } = known;
    return (
        <details class="user" ref={box}>
            <summary data-testid="user-menu" title="Your role">
                <Icon name="user" />
                <span class="cut">{known.role}</span>
                <Icon name="down" class="user-arrow" />
            </summary>
            <div class="user-menu">
                <p>
                    Logged in as <strong>{known.user}</strong>
                    {known.role !== known.user && (
                        <>
                            , acting as <strong>{known.role}</strong>
                        </>
                    )}
                </p>
                {known.read_only && <p class="quiet">This server lets its users look, not change.</p>}
                <dl class="versions">
                    <dt>backfill-web</dt>
                    <dd>{versions.web}</dd>
                    <dt>extension</dt>
                    <dd>{versions.extension ?? 'not installed'}</dd>
                    <dt>PostgreSQL</dt>
                    <dd>{versions.server}</dd>
                </dl>
                <button
                    type="button"
                    class="menu-item"
                    onClick={() => ((box.current!.open = false), (helpOpen.value = true))}
                >
                    Keyboard <kbd>?</kbd>
                </button>
                <a class="menu-item" href="/api/v1/openapi.json" target="_blank" rel="noopener">
                    API description
                </a>
                {!known.proxy_login && (
                    <button type="button" class="menu-item" data-testid="logout" onClick={() => void logOut()}>
                        <Icon name="out" /> Log out
                    </button>
                )}
            </div>
        </details>
    );
}

function shownFrom(): string {
    const at = parseTime(sample.value?.at);
    return at === undefined ? 'What is shown is old' : `What is shown is from ${dateTime(at, timeZone()).slice(11)}`;
}

function Banners() {
    const gone = streamState.value === 'gone';
    return (
        <div class="banners">
            {serverAway.value && (
                <p class="banner banner-bad" role="alert" data-testid="banner-server">
                    <Icon name="warning" /> The dashboard’s server cannot be reached. {shownFrom()}; it goes on by
                    itself when the server is back.
                </p>
            )}
            {!serverAway.value && gone && (
                <p class="banner banner-bad" role="alert" data-testid="banner-database">
                    <Icon name="warning" /> Database {database.value} is away
                    {goneReason.value ? `: ${goneReason.value}` : ''}. {shownFrom()}; it goes on by itself when the
                    database is back.
                </p>
            )}
            {!serverAway.value && !gone && sessionProblem.value && (
                <p class="banner banner-bad" role="alert">
                    <Icon name="warning" /> {sessionProblem.value.message} {sessionProblem.value.hint}
                </p>
            )}
            {sample.value?.in_recovery && (
                <p class="banner">
                    <Icon name="info" /> This server is a standby: it shows everything and changes nothing. Jobs run on
                    the primary.
                </p>
            )}
        </div>
    );
}

function Notices() {
    return (
        <div class="notices">
            <div role="status" aria-live="polite" data-testid="notices">
                {notices.value.map((notice) => (
                    <div key={notice.id} class={`notice notice-${notice.kind}`}>
                        <Icon name={notice.kind === 'done' ? 'ok' : 'warning'} />
                        <div>
                            <p>{notice.text}</p>
                            {notice.hint && <p class="quiet">{notice.hint}</p>}
                        </div>
                        <button
                            type="button"
                            class="icon-button"
                            aria-label="Dismiss"
                            onClick={() => dismiss(notice.id)}
                        >
                            <Icon name="close" />
                        </button>
                    </div>
                ))}
            </div>
        </div>
    );
}

interface Props {
    title: string;
    main: RefObject<HTMLElement | null>;
    waiting?: boolean;
    children?: ComponentChildren;
}

export function Shell({ title, main, waiting, children }: Props) {
    const isOpen = useSignal(false);
    return (
        <div class={`shell ${isOpen.value ? 'menu-open' : ''}`}>
            <a class="skip" href="#main">
                Skip to the content
            </a>
            <header class="bar">
                <button
                    type="button"
                    class="icon-button menu-button"
                    aria-label="Menu"
                    aria-expanded={isOpen.value}
                    aria-controls="menu"
                    onClick={() => (isOpen.value = !isOpen.value)}
                >
                    <Icon name={isOpen.value ? 'close' : 'menu'} />
                </button>
                <a class="brand" href={href('/')}>
                    <Logo /> backfill
                </a>
                {!waiting && (
                    <>
                        <DatabaseSwitch />
                        {session.value!.read_only && (
                            <span class="tag" title="This server lets its users look, not change">
                                <Icon name="lock" /> read-only
                            </span>
                        )}
                        <button
                            type="button"
                            class="find-button"
                            data-testid="find"
                            onClick={() => (findOpen.value = true)}
                        >
                            <Icon name="search" />
                            <span class="find-text">Find a job, task, queue …</span>
                            <kbd aria-hidden="true">/</kbd>
                        </button>
                        <span class="bar-end">
                            <Live />
                            <Choices />
                            <UserMenu />
                        </span>
                    </>
                )}
            </header>
            <nav class="side" id="menu" aria-label="Pages">
                {!waiting && <Menu onPick={() => (isOpen.value = false)} />}
            </nav>
            <main id="main" class="main" ref={main} tabIndex={-1} aria-label={title || 'Loading'} aria-busy={waiting}>
                <Banners />
                {children ?? (
                    <div class="skeleton-page">
                        <span class="skeleton" />
                        <span class="skeleton" />
                        <span class="skeleton" />
                    </div>
                )}
            </main>
            <Notices />
            <EnqueueDialog />
            <QuestionDialog />
            {findOpen.value && <Find />}
            {helpOpen.value && <Help />}
        </div>
    );
}

/** The head of a page. */
export function PageHead({
    title,
    children,
    sub,
}: {
    title: ComponentChildren;
    sub?: ComponentChildren;
    children?: ComponentChildren;
}) {
    return (
        <header class="page-head">
            <div class="page-title">
                <h1>{title}</h1>
                {sub}
            </div>
            {children && <div class="page-actions">{children}</div>}
        </header>
    );
}

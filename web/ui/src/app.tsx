// Which page an address is, and what is shown while there is no session.
import { useEffect, useRef } from 'preact/hooks';
import { sessionEnded } from './api';
import { pages } from './keys';
import { Audit } from './pages/audit';
import { DeadLetters } from './pages/dead-letters';
import { HistoryPage } from './pages/history';
import { JobPage } from './pages/job';
import { Jobs } from './pages/jobs';
import { LetterPage } from './pages/letter';
import { LoginDialog, LoginPage } from './pages/login';
import { OverviewPage } from './pages/overview';
import { QueuePage } from './pages/queue';
import { Queues } from './pages/queues';
import { Schedules } from './pages/schedules';
import { Tasks } from './pages/tasks';
import { Workers } from './pages/workers';
import { databaseParam, href, navigate, path } from './router';
import { database, loadSession, may, session, sessionProblem } from './session';
import { Empty } from './ui/basics';
import { Problem } from './ui/problem';
import { Shell } from './ui/shell';

function NotFound() {
    return (
        <Empty title="There is no such page." icon="search">
            <a class="button" href={href('/')}>
                Go to the overview
            </a>
        </Empty>
    );
}

function pageOf(at: string): { title: string; page: preact.ComponentChildren } {
    const parts = at.split('/').slice(1).map(decoded);
    const [first = '', second, third] = parts;
    if (third !== undefined) return { title: 'Not found', page: <NotFound /> };
    if (second !== undefined) {
        if (first === 'jobs' && /^\d{1,19}$/.test(second)) return { title: `Job ${second}`, page: <JobPage key={second} id={second} /> };
        if (first === 'dlq' && /^\d{1,19}$/.test(second)) return { title: `Dead letter ${second}`, page: <LetterPage key={second} id={second} /> };
        if (first === 'queues') return { title: `Queue ${second}`, page: <QueuePage key={second} name={second} /> };
        return { title: 'Not found', page: <NotFound /> };
    }
    switch (first) {
        case '':
            return { title: 'Overview', page: may('overview') ? <OverviewPage /> : <Home /> };
        case 'jobs':
            return { title: 'Jobs', page: <Jobs /> };
        case 'queues':
            return { title: 'Queues', page: <Queues /> };
        case 'dlq':
            return { title: 'Dead letters', page: <DeadLetters /> };
        case 'schedules':
            return { title: 'Schedules', page: <Schedules /> };
        case 'workers':
            return { title: 'Workers', page: <Workers /> };
        case 'tasks':
            return { title: 'Tasks', page: <Tasks /> };
        case 'history':
            return { title: 'History', page: <HistoryPage /> };
        case 'audit':
            return { title: 'Audit', page: <Audit /> };
        default:
            return { title: 'Not found', page: <NotFound /> };
    }
}

function decoded(part: string): string {
    try {
        return decodeURIComponent(part);
    } catch {
        return part;
    }
}

/** For a role that may not see the overview: the first page that it may see. */
function Home() {
    const first = pages.find((page) => may(page.right));
    useEffect(() => {
        if (first) navigate(href(first.path), { replace: true });
    }, []);
    if (first) return null;
    if (may('jobs.enqueue')) return <Jobs />;
    return (
        <Empty title={`Role ${session.value!.role} has no rights on backfill in database ${database.value}.`} icon="lock">
            <p>The owner of the extension, or a superuser, gives it a bundle of rights:</p>
            <p class="mono">SELECT backfill.grant_monitor('{session.value!.role}');</p>
            <p>or grant_admin, grant_consumer, grant_producer. Then reload this page.</p>
        </Empty>
    );
}

export function App() {
    const at = path.value;
    const main = useRef<HTMLElement>(null);
    const known = session.value;
    const isLogin = at === '/login';
    const { title, page } = known ? pageOf(isLogin ? '/' : at) : { title: 'Log in', page: null };

    useEffect(() => {
        document.title = `${title} · ${database.value ? `${database.value} · ` : ''}backfill`;
    }, [title, database.value]);
    useEffect(() => {
        if (known && isLogin) navigate('/', { replace: true });
    }, [known, isLogin]);
    // Another database has other rights.
    const wanted = databaseParam.value;
    const first = useRef(true);
    useEffect(() => {
        if (!first.current) void loadSession();
        first.current = false;
    }, [wanted]);
    // Screen readers go on at the new page's beginning.
    const lastPath = useRef(at);
    useEffect(() => {
        if (lastPath.current !== at) main.current?.focus({ preventScroll: true });
        lastPath.current = at;
    }, [at]);

    if (!known) {
        if (sessionEnded.value) return <LoginPage />;
        if (sessionProblem.value)
            return (
                <main class="alone">
                    <Problem error={sessionProblem.value} retry={() => void loadSession()} />
                </main>
            );
        return <Shell title="" main={main} waiting />;
    }
    return (
        <>
            <Shell title={title} main={main}>
                {page}
            </Shell>
            {sessionEnded.value && <LoginDialog />}
        </>
    );
}

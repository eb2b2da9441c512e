// Which page an address is, and what is shown while there is no session.
import { useEffect, useErrorBoundary, useRef } from 'preact/hooks';
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
import { databaseParam, href, nameOf, navigate, path } from './router';
import { database, epoch, loadSession, may, session, sessionProblem } from './session';
import { Code, Empty } from './ui/basics';
import { Problem } from './ui/problem';
import { PageHead, Shell } from './ui/shell';

function NotFound() {
    return (
        <>
            <PageHead title="Not found" />
            <Empty title="There is no such page." icon="search">
                <a class="button" href={href('/')}>
                    Go to the overview
                </a>
            </Empty>
        </>
    );
}

function NoRight({ title, anything = true }: { title: string; anything?: boolean }) {
    const role = session.value!.role;
    return (
        <>
            <PageHead title={title} />
            <Empty
                title={
                    anything
                        ? `Role ${role} may not see this.`
                        : `Role ${role} has no rights on backfill in database ${database.value}.`
                }
                icon="lock"
            >
                <p>The owner of the extension, or a superuser, gives it a bundle of rights, such as:</p>
                <Code text={`SELECT backfill.grant_monitor('${role.replaceAll("'", "''")}');`} />
                <p>There are grant_admin, grant_consumer and grant_producer, too. Then reload this page.</p>
            </Empty>
        </>
    );
}

/** The lists, by their path; keys.ts has their names and the rights that they need. */
const lists: Record<string, () => preact.JSX.Element> = {
    '/': OverviewPage,
    '/jobs': Jobs,
    '/queues': Queues,
    '/dlq': DeadLetters,
    '/schedules': Schedules,
    '/workers': Workers,
    '/tasks': Tasks,
    '/history': HistoryPage,
    '/audit': Audit,
};

interface Page {
    title: string;
    right?: string;
    show: () => preact.ComponentChildren;
}

const id = /^\d{1,19}$/;

function pageOf(at: string): Page {
    const listed = pages.find((page) => page.path === at);
    if (listed) {
        const List = lists[at]!;
        if (at === '/' && !may('overview')) return { title: 'Overview', show: () => <Home /> };
        // A role that may only enqueue does that on the page of jobs.
        const right = at === '/jobs' && may('jobs.enqueue') ? undefined : listed.right;
        return { title: listed.name, right, show: () => <List /> };
    }
    const [, first, name = '', more] = at.split('/').map(nameOf);
    if (more === undefined && name) {
        if (first === 'jobs' && id.test(name))
            return { title: `Job ${name}`, right: 'jobs.get', show: () => <JobPage key={name} id={name} /> };
        if (first === 'dlq' && id.test(name))
            return { title: `Dead letter ${name}`, right: 'dlq.get', show: () => <LetterPage key={name} id={name} /> };
        if (first === 'queues')
            return { title: `Queue ${name}`, right: 'queues.get', show: () => <QueuePage key={name} name={name} /> };
    }
    return { title: 'Not found', show: () => <NotFound /> };
}

/** For a role that may not see the overview: the first page that it may see. */
function Home() {
    const first = pages.find((page) => may(page.right));
    const to = first?.path ?? (may('jobs.enqueue') ? '/jobs' : undefined);
    useEffect(() => {
        if (to) navigate(href(to), { replace: true });
    }, []);
    return to ? null : <NoRight title="Welcome" anything={false} />;
}

/** A fault of the page itself must not leave the screen empty. */
function Guarded({ children }: { children: preact.ComponentChildren }) {
    const [fault, again] = useErrorBoundary((error) => console.error(error));
    if (!fault) return <>{children}</>;
    return (
        <Empty title="This page has failed." icon="warning">
            <p>
                That is a fault of the dashboard; the database is not affected. The browser’s console has the details.
            </p>
            <button type="button" class="button" onClick={again}>
                Try again
            </button>
        </Empty>
    );
}

export function App() {
    const at = path.value;
    const main = useRef<HTMLElement>(null);
    const known = session.value;
    const isLogin = at === '/login';
    const page = known && pageOf(isLogin ? '/' : at);
    const title = page ? page.title : 'Log in';

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

    if (!page) {
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
                <Guarded key={`${at} ${epoch.value}`}>
                    {page.right && !may(page.right) ? <NoRight title={title} /> : page.show()}
                </Guarded>
            </Shell>
            {sessionEnded.value && <LoginDialog />}
        </>
    );
}

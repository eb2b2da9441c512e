// The session: which role, which database, and what it may do. The page offers nothing that the database would refuse.
import { computed, signal } from '@preact/signals';
import { api, ApiError, sessionEnded } from './api';
import { databaseParam } from './router';
import type { Session } from './types';

export const session = signal<Session | undefined>(undefined);
/** Why there is no session yet although the server was asked. */
export const sessionProblem = signal<ApiError | undefined>(undefined);
/** The database that is shown. */
export const database = computed(() => databaseParam.value ?? session.value?.database ?? '');
/** Another role or database: what was loaded before must not be shown any more. */
export const epoch = signal(0);

export function may(right: string): boolean {
    return session.value?.rights[right] ?? false;
}

/** Whether the role sees payloads and texts of errors. */
export function mayReadPayloads(): boolean {
    return may('payloads');
}

/** Whether this browser has had a session. The cookie itself is hidden from scripts. */
const mark = 'backfill.session';

function remember(isKnown: boolean): void {
    try {
        if (isKnown) localStorage.setItem(mark, '1');
        else localStorage.removeItem(mark);
    } catch {
        // Without storage the server is asked each time.
    }
}

function isRemembered(): boolean {
    try {
        return localStorage.getItem(mark) !== null;
    } catch {
        return true;
    }
}

/** Where the login is asked of for the first time there is no session to look at. */
export function startSession(): void {
    if (location.pathname === '/login' && !isRemembered()) sessionEnded.value = true;
    else void loadSession();
}

function accept(found: Session): void {
    remember(true);
    const before = session.peek();
    session.value = found;
    sessionProblem.value = undefined;
    sessionEnded.value = false;
    if (before && (before.user !== found.user || before.role !== found.role || before.database !== found.database))
        epoch.value++;
}

/** Asks the server, which knows by the cookie. */
export async function loadSession(isBackground = false): Promise<void> {
    try {
        accept(await api.get<Session>('/session', undefined, undefined, isBackground));
    } catch (error) {
        // 401 has set sessionEnded; the page shows the login then.
        if (!(error instanceof ApiError)) throw error;
        if (error.status === 401) remember(false);
        else sessionProblem.value = error;
    }
}

export async function logIn(user: string, password: string, name?: string): Promise<void> {
    try {
        accept(await api.login<Session>({ user, password, database: name }));
    } catch (error) {
        // A proxy has logged the browser in already.
        if (!(error instanceof ApiError && error.code === 'proxy_login')) throw error;
        await loadSession();
    }
    // The rights are those in the database of the login; the address may show another.
    if (databaseParam.peek() != null && databaseParam.peek() !== session.peek()!.database) await loadSession();
}

export async function logOut(): Promise<void> {
    await api.post('/logout');
    remember(false);
    location.assign('/login');
}

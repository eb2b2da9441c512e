// Calls of the API under /api/v1. An answer that is no success is raised as an ApiError.
import { signal } from '@preact/signals';
import { parseJson, toBody } from './json';
import { databaseParam } from './router';
import type { Json } from './types';

export class ApiError extends Error {
    constructor(
        message: string,
        /** 0: there was no answer at all. */
        readonly status: number,
        readonly code: string,
        readonly detail: string | null = null,
        readonly hint: string | null = null,
    ) {
        super(message);
    }
    /** It is not about what was asked: the same call may succeed in a moment. */
    get isPassing(): boolean {
        return this.status === 0 || this.status === 429 || (this.status >= 500 && this.code !== '57014');
    }
}

/** The program that serves this page does not answer. */
export const serverAway = signal(false);
/** The session is over, or there has been none. */
export const sessionEnded = signal(false);

type Fields = Record<string, unknown>;

interface Options {
    query?: Record<string, string | undefined>;
    body?: Fields;
    signal?: AbortSignal;
    isLogin?: boolean;
    /** The page asks by itself: that must not keep a session alive that its user has left. */
    isBackground?: boolean;
}

function addressOf(path: string, query: Options['query']): string {
    const params = new URLSearchParams();
    for (const [name, value] of Object.entries(query ?? {})) if (value !== undefined) params.set(name, value);
    const database = databaseParam.peek();
    if (database != null && !params.has('database')) params.set('database', database);
    const text = params.toString();
    return `/api/v1${path}${text ? `?${text}` : ''}`;
}

async function send(method: string, path: string, options: Options): Promise<Response> {
    try {
        const response = await fetch(addressOf(path, options.query), {
            method,
            signal: options.signal,
            credentials: 'same-origin',
            headers: {
                ...(options.body && { 'Content-Type': 'application/json' }),
                ...(options.isBackground && { 'Backfill-Background': '1' }),
            },
            body: options.body ? toBody(options.body) : undefined,
        });
        serverAway.value = false;
        return response;
    } catch (error) {
        if ((error as Error).name === 'AbortError') throw error;
        serverAway.value = true;
        throw new ApiError(
            'The dashboard’s server cannot be reached.',
            0,
            'unreachable',
            null,
            'Is backfill-web running, and is the network there?',
        );
    }
}

async function errorOf(response: Response): Promise<ApiError> {
    try {
        const { error, code, detail, hint } = (await response.json()) as Record<string, string | null>;
        return new ApiError(
            error ?? `HTTP ${response.status}`,
            response.status,
            code ?? String(response.status),
            typeof detail === 'string' ? detail : null,
            hint ?? null,
        );
    } catch {
        // A proxy in between answers with a page of its own.
        return new ApiError(
            `The server answered with HTTP status ${response.status}.`,
            response.status,
            String(response.status),
        );
    }
}

async function call<T>(method: string, path: string, options: Options = {}): Promise<T> {
    const response = await send(method, path, options);
    if (!response.ok) {
        if (response.status === 401 && !options.isLogin) sessionEnded.value = true;
        throw await errorOf(response);
    }
    const text = response.status === 204 ? '' : await response.text();
    try {
        return (text ? parseJson(text) : undefined) as unknown as T;
    } catch {
        throw new ApiError(
            'The server’s answer is not JSON.',
            response.status,
            'bad_answer',
            null,
            'Something between the browser and backfill-web has answered in its place.',
        );
    }
}

export const api = {
    get: <T>(path: string, query?: Options['query'], abort?: AbortSignal, isBackground?: boolean) =>
        call<T>('GET', path, { query, signal: abort, isBackground }),
    post: <T = Json>(path: string, body?: Fields) => call<T>('POST', path, { body }),
    put: <T = Json>(path: string, body: Fields) => call<T>('PUT', path, { body }),
    patch: <T = Json>(path: string, body: Fields) => call<T>('PATCH', path, { body }),
    delete: <T = Json>(path: string) => call<T>('DELETE', path),
    login: <T>(body: Fields) => call<T>('POST', '/login', { body, isLogin: true }),
};

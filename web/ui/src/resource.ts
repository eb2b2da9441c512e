// What a page shows of the API: loaded once, refreshed quietly while the tab is in sight, kept while a refresh fails.
import { useEffect, useRef, useState } from 'preact/hooks';
import { effect } from '@preact/signals';
import { api, ApiError, sessionEnded } from './api';
import { now, visible } from './clock';
import { paused } from './prefs';
import { database, epoch } from './session';

export interface Resource<T> {
    data: T | undefined;
    error: ApiError | undefined;
    /** When the data was loaded, in milliseconds of this machine's clock. */
    at: number;
    loading: boolean;
    /** The data is that of another filter, and the right one is on its way. */
    pending: boolean;
    reload: () => Promise<void>;
}

interface Shown {
    key: string;
    data: unknown;
    at: number;
    error: ApiError | undefined;
    loading: boolean;
}

/** What was shown last, by address: going back shows it at once. */
const cache = new Map<string, { data: unknown; at: number }>();
const cacheSize = 40;

function remember(key: string, data: unknown, at: number): void {
    cache.delete(key);
    cache.set(key, { data, at });
    if (cache.size > cacheSize) cache.delete(cache.keys().next().value!);
}

interface Options {
    /** Seconds between refreshes; 0: none. */
    every?: number;
    /** Show what was there until the new data has come: right for filters, wrong for another object. */
    keep?: boolean;
}

/** path null: nothing to load. */
export function useResource<T>(
    path: string | null,
    query: Record<string, string> = {},
    { every = 5, keep = false }: Options = {},
): Resource<T> {
    const key = path == null ? '' : `${epoch.value} ${database.value} ${path}?${new URLSearchParams(query)}`;
    const [, render] = useState(0);
    const shown = useRef<Shown>({ key: '', data: undefined, at: 0, error: undefined, loading: false });
    const abort = useRef<AbortController | undefined>(undefined);
    const latest = useRef({ key, path, query });
    latest.current = { key, path, query };

    const load = async (isBackground = false) => {
        const { key: wanted, path: from, query: by } = latest.current;
        if (from == null) return;
        abort.current?.abort();
        const controller = (abort.current = new AbortController());
        shown.current.loading = true;
        render((n) => n + 1);
        try {
            const data = await api.get<T>(from, by, controller.signal, isBackground);
            if (controller.signal.aborted) return;
            remember(wanted, data, Date.now());
            shown.current = { key: wanted, data, at: Date.now(), error: undefined, loading: false };
        } catch (error) {
            if (controller.signal.aborted) return;
            const problem = error instanceof ApiError ? error : new ApiError(String(error), 0, 'failed');
            const old = shown.current;
            // A session that has ended is dealt with above the pages; what was shown stays.
            shown.current = {
                ...old,
                key: old.key === wanted || !keep ? wanted : old.key,
                error: problem,
                loading: false,
            };
            // What is gone must not be shown as if it were there, nor what the role may no longer see.
            if (problem.status === 404 || problem.status === 403)
                shown.current = { key: wanted, data: undefined, at: 0, error: problem, loading: false };
        }
        render((n) => n + 1);
    };

    if (shown.current.key !== key) {
        const kept = cache.get(key);
        if (kept) shown.current = { key, data: kept.data, at: kept.at, error: undefined, loading: false };
        else if (!keep) shown.current = { key, data: undefined, at: 0, error: undefined, loading: path != null };
    }

    useEffect(() => {
        if (path == null) return;
        void load();
        return () => abort.current?.abort();
    }, [key]);

    useEffect(() => {
        if (path == null || !every) return;
        let waited = 0;
        return effect(() => {
            void now.value;
            waited++;
            const { loading, error } = shown.current;
            // What is gone, or refused, stays so until the reader does something.
            const isFinal = error !== undefined && !error.isPassing;
            const due = waited > every && !loading && !isFinal && visible.peek() && !sessionEnded.peek();
            // Reading what failed is repeated although the reader has stopped refreshes.
            if (due && (!paused.peek() || error?.isPassing)) {
                waited = 0;
                void load(true);
            }
        });
    }, [key, every]);

    useEffect(() => {
        // After a new login.
        return sessionEnded.subscribe((ended) => {
            if (!ended && shown.current.error?.status === 401) void load();
        });
    }, []);

    const { data, at, error, loading } = shown.current;
    const isOther = shown.current.key !== key;
    return {
        data: data as T | undefined,
        at,
        error,
        loading: loading || isOther,
        pending: isOther && data !== undefined,
        reload: () => load(),
    };
}

// The address is the state of the page: path and parameters, with the browser's history. Links are plain <a href>; clicks
// on them are caught here.
import { computed, signal } from '@preact/signals';
import { withParams } from './query';

interface Place {
    path: string;
    query: URLSearchParams;
}

function here(): Place {
    return { path: location.pathname.replace(/(.)\/+$/, '$1'), query: new URLSearchParams(location.search) };
}

export const place = signal<Place>(here());
export const path = computed(() => place.value.path);
/** The parameter that chooses the database belongs to every address, so that a link leads to the same one. */
export const databaseParam = computed(() => place.value.query.get('database'));

/** An address of this page: encoded, with the database of the current one. */
export function href(to: string, params: Record<string, string | null | undefined> | URLSearchParams = {}): string {
    const query = params instanceof URLSearchParams ? new URLSearchParams(params) : new URLSearchParams();
    if (!(params instanceof URLSearchParams))
        for (const [name, value] of Object.entries(params)) if (value != null) query.set(name, value);
    const database = databaseParam.value;
    if (database != null && !query.has('database')) query.set('database', database);
    const text = query.toString();
    return text ? `${to}?${text}` : to;
}

/** A name as a segment of a path. "." or ".." would be taken for a step there, also when it is encoded: a slash before it says that it is
 *  a name. One that has slashes there itself gets one more. The server reads it in the same way. */
export function segment(name: string): string {
    return encodeURIComponent(/^\/*\.{1,2}$/.test(name) ? `/${name}` : name);
}

/** The name that a segment stands for. */
export function nameOf(part: string): string {
    try {
        const name = decodeURIComponent(part);
        return /^\/+\.{1,2}$/.test(name) ? name.slice(1) : name;
    } catch {
        return part;
    }
}

export interface HistoryState {
    trail?: string[];
    scroll?: number;
}

export function historyState(): HistoryState {
    return (history.state ?? {}) as HistoryState;
}

export function navigate(to: string, options: { replace?: boolean; state?: HistoryState } = {}): void {
    const before = place.value.path;
    if (options.replace) {
        history.replaceState(options.state ?? history.state, '', to);
    } else {
        history.replaceState({ ...historyState(), scroll: scrollY }, '');
        history.pushState(options.state ?? {}, '', to);
    }
    place.value = here();
    if (place.value.path !== before) scrollTo(0, 0);
}

/** Changes parameters of the current address. */
export function setParams(
    changes: Record<string, string | null>,
    options: { replace?: boolean; state?: HistoryState } = {},
): void {
    navigate(href(place.value.path, withParams(place.value.query, changes)), options);
}

function onClick(event: MouseEvent): void {
    if (
        event.defaultPrevented ||
        event.button !== 0 ||
        event.metaKey ||
        event.ctrlKey ||
        event.shiftKey ||
        event.altKey
    )
        return;
    const link = (event.target as Element).closest?.('a');
    if (!link || link.target || link.hasAttribute('download') || link.origin !== location.origin) return;
    if (link.pathname.startsWith('/api/') || link.pathname === '/metrics' || link.getAttribute('href')!.startsWith('#'))
        return;
    event.preventDefault();
    navigate(link.pathname + link.search);
}

export function startRouter(): void {
    history.scrollRestoration = 'manual';
    addEventListener('popstate', () => {
        place.value = here();
        const scroll = historyState().scroll ?? 0;
        // What a list showed before is kept (resource.ts), so it is there with the next frame.
        requestAnimationFrame(() => requestAnimationFrame(() => scrollTo(0, scroll)));
    });
    document.addEventListener('click', onClick);
}

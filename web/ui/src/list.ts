// A list in pages: the filter and the cursor are in the address, the cursors of the pages before in the browser's history.
import { readFilter } from './query';
import { useResource, type Resource } from './resource';
import { historyState, place, setParams } from './router';
import { useSelection, type Selection } from './selection';
import type { Count } from './types';

interface PageOf {
    next: string | null;
    cut_off: boolean;
    total?: Count;
}

export interface List<T> {
    rows: T[] | undefined;
    filter: Record<string, string>;
    isFiltered: boolean;
    total: Count | undefined;
    cutOff: boolean;
    resource: Resource<unknown>;
    selection: Selection;
    /** Steps to other pages; undefined where there is none. */
    forward: (() => void) | undefined;
    back: (() => void) | undefined;
    first: (() => void) | undefined;
}

/** field: the name of the array in the answer. path null: not to be loaded. */
export function useList<T>(
    path: string | null,
    field: string,
    names: readonly string[],
    extra: Record<string, string> = {},
): List<T> {
    const query = place.value.query;
    const filter = readFilter(query, names);
    const cursor = query.get('cursor');
    const resource = useResource<PageOf & Record<string, T[]>>(
        path,
        { ...filter, ...extra, ...(cursor ? { cursor } : {}) },
        { keep: true },
    );
    const selection = useSelection(JSON.stringify(filter));
    const { data } = resource;
    const trail = historyState().trail ?? [];
    const next = data?.next;
    const go = (to: string | null, newTrail: string[]) => {
        setParams({ cursor: to }, { state: { trail: newTrail } });
        scrollTo(0, 0);
    };
    return {
        rows: data?.[field],
        filter,
        isFiltered: Object.keys(filter).length > 0,
        total: data?.total,
        cutOff: data?.cut_off ?? false,
        resource,
        selection,
        forward: next && !resource.pending ? () => go(next, [...trail, cursor ?? '']) : undefined,
        back: cursor && trail.length ? () => go(trail.at(-1) || null, trail.slice(0, -1)) : undefined,
        first: cursor ? () => go(null, []) : undefined,
    };
}

// What is selected of a list: some rows by their keys, or all that its filter shows.
import { useRef, useState } from 'preact/hooks';
import { count } from './format';
import { raw } from './json';
import { filterForBody } from './query';
import type { Count } from './types';

/** The most that one call acts on. */
export const mostAtOnce = 10_000;

export interface Selection {
    keys: ReadonlySet<string>;
    all: boolean;
    has(key: string): boolean;
    toggle(key: string): void;
    togglePage(keys: string[]): void;
    selectAll(): void;
    clear(): void;
}

/** filterKey: a selection belongs to one filter, and is gone with it at once: what it would act on is another then. */
export function useSelection(filterKey: string): Selection {
    const [, render] = useState(0);
    const selected = useRef({ filterKey, keys: new Set() as ReadonlySet<string>, all: false });
    const select = (newKeys: ReadonlySet<string>, isAll: boolean) => {
        selected.current = { filterKey, keys: newKeys, all: isAll };
        render((n) => n + 1);
    };
    if (selected.current.filterKey !== filterKey) selected.current = { filterKey, keys: new Set(), all: false };
    const { keys, all } = selected.current;
    return {
        keys,
        all,
        has: (key) => all || keys.has(key),
        toggle(key) {
            const next = new Set(all ? [] : keys);
            if (!next.delete(key)) next.add(key);
            select(next, false);
        },
        togglePage(page) {
            const next = new Set(keys);
            const isFull = !all && page.every((key) => next.has(key));
            for (const key of page) isFull || all ? next.delete(key) : next.add(key);
            select(next, false);
        },
        selectAll: () => select(keys, true),
        clear: () => select(new Set(), false),
    };
}

/** How many the call will act on at most, which is what the reader confirms. */
export function chosenCount(selection: Selection, total: Count | undefined): number {
    return selection.all ? Math.min(total?.count ?? 0, mostAtOnce) : Math.min(selection.keys.size, mostAtOnce);
}

/** The part of a call's body that says what to act on. */
export function chosenBody(
    selection: Selection,
    filter: Record<string, string>,
    total: Count | undefined,
): Record<string, unknown> {
    return selection.all
        ? { filter: filterForBody(filter, raw), max: chosenCount(selection, total) }
        : { ids: [...selection.keys].slice(0, mostAtOnce) };
}

/** For the question before it: what remains if there are more than one call takes. */
export function chosenRest(selection: Selection, total: Count | undefined): string {
    if (!selection.all || !total || (!total.capped && total.count <= mostAtOnce)) return '';
    return `The filter shows ${count(total)}; one call acts on the newest ${count(mostAtOnce)} at most. Repeat it for the rest.`;
}

// What the reader has chosen for this browser. All of it works without storage, which some browsers refuse.
import { effect, signal, type Signal } from '@preact/signals';

export type Theme = 'auto' | 'light' | 'dark';
const prefix = 'backfill.';

function stored<T extends string>(name: string, fallback: T, allowed: readonly T[]): Signal<T> {
    let value = fallback;
    try {
        const found = localStorage.getItem(prefix + name) as T | null;
        if (found && allowed.includes(found)) value = found;
    } catch {
        // No storage: the choice lasts as long as the page.
    }
    const result = signal(value);
    effect(() => {
        const chosen = result.value;
        try {
            localStorage.setItem(prefix + name, chosen);
        } catch {
            // As above.
        }
    });
    return result;
}

export const theme = stored<Theme>('theme', 'auto', ['auto', 'light', 'dark']);
export const zone = stored<'local' | 'utc'>('zone', 'local', ['local', 'utc']);
export const chartRange = stored<'5' | '15' | '60'>('range', '15', ['5', '15', '60']);
/** The reader has stopped refreshes; not kept, because a page that stands still after a reload looks broken. */
export const paused = signal(false);

effect(() => {
    document.documentElement.dataset.theme = theme.value;
});

/** The name of the time zone for Intl; undefined is the browser's own. */
export function timeZone(): string | undefined {
    return zone.value === 'utc' ? 'UTC' : undefined;
}

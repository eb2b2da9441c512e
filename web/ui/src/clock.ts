// One clock for all that moves on the page. It stands still while the tab is hidden.
import { signal } from '@preact/signals';

/** Now by the clock of the database's server, whose times are shown; in milliseconds, once a second. */
export const now = signal(Date.now());
export const visible = signal(document.visibilityState === 'visible');

let skew = 0;

/** Whenever the server says what time it is. Small differences are the time that the answer took. */
export function hearServerTime(ms: number): void {
    const difference = ms - Date.now();
    skew = Math.abs(difference) > 2000 ? difference : 0;
}

export function startClock(): void {
    const tick = () => {
        if (visible.value) now.value = Date.now() + skew;
    };
    setInterval(tick, 1000);
    document.addEventListener('visibilitychange', () => {
        visible.value = document.visibilityState === 'visible';
        tick();
    });
}

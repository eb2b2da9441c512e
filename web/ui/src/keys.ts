// The keyboard: single keys and "g" with a second one, as long as no text is being typed and no dialog is open.
import { signal } from '@preact/signals';
import { href, navigate } from './router';
import { may } from './session';

/** The pages in the order of the menu, with the key after "g" and the right that they need. */
export const pages = [
    { path: '/', name: 'Overview', key: 'o', icon: 'pulse', right: 'overview' },
    { path: '/jobs', name: 'Jobs', key: 'j', icon: 'list', right: 'jobs.list' },
    { path: '/queues', name: 'Queues', key: 'q', icon: 'layers', right: 'queues.list' },
    { path: '/dlq', name: 'Dead letters', key: 'd', icon: 'dead', right: 'dlq.list' },
    { path: '/schedules', name: 'Schedules', key: 's', icon: 'clock', right: 'schedules.list' },
    { path: '/workers', name: 'Workers', key: 'w', icon: 'chip', right: 'workers.list' },
    { path: '/tasks', name: 'Tasks', key: 't', icon: 'box', right: 'tasks.list' },
    { path: '/history', name: 'History', key: 'h', icon: 'past', right: 'history.list' },
    { path: '/audit', name: 'Audit', key: 'a', icon: 'pen', right: 'audit.list' },
] as const;

export const helpOpen = signal(false);
export const findOpen = signal(false);

/** The table that j, k, x and Enter work on. */
export interface KeyTable {
    move(step: number): void;
    open(): void;
    toggle(): void;
}
const tables: KeyTable[] = [];

export function registerTable(table: KeyTable): () => void {
    tables.push(table);
    return () => tables.splice(tables.indexOf(table), 1);
}

function isTyping(target: EventTarget | null): boolean {
    return (
        target instanceof HTMLElement &&
        (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)) &&
        (target as HTMLInputElement).type !== 'checkbox'
    );
}

let waitingFor: number | undefined;

function onKey(event: KeyboardEvent): void {
    if (event.key.toLowerCase() === 'k' && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        findOpen.value = true;
        return;
    }
    if (
        event.ctrlKey ||
        event.metaKey ||
        event.altKey ||
        isTyping(event.target) ||
        document.querySelector('dialog[open]')
    )
        return;
    if (waitingFor !== undefined) {
        clearTimeout(waitingFor);
        waitingFor = undefined;
        const page = pages.find((each) => each.key === event.key);
        if (page && may(page.right)) {
            event.preventDefault();
            navigate(href(page.path));
        }
        return;
    }
    const table = tables.at(-1);
    switch (event.key) {
        case 'g':
            waitingFor = window.setTimeout(() => (waitingFor = undefined), 1500);
            break;
        case '/':
            event.preventDefault();
            findOpen.value = true;
            break;
        case '?':
            helpOpen.value = true;
            break;
        case 'j':
            table?.move(1);
            break;
        case 'k':
            table?.move(-1);
            break;
        case 'x':
            table?.toggle();
            break;
        case 'Enter':
            // On a link or a button it means that one.
            if (!(event.target as Element).closest?.('a, button, summary')) table?.open();
            break;
    }
}

export function startKeys(): void {
    document.addEventListener('keydown', onKey);
}

// What has come of an action, told at the edge of the page and to screen readers; and questions before what cannot be undone.
import { signal } from '@preact/signals';
import { ApiError } from './api';

export interface Notice {
    id: number;
    kind: 'done' | 'failed';
    text: string;
    hint?: string;
}

export const notices = signal<Notice[]>([]);
let lastId = 0;

function add(notice: Omit<Notice, 'id'>): void {
    const id = ++lastId;
    notices.value = [...notices.value.slice(-4), { ...notice, id }];
    // Errors stay until they are dismissed.
    if (notice.kind === 'done') setTimeout(() => dismiss(id), 6000);
}

export const tell = (text: string) => add({ kind: 'done', text });

export function dismiss(id: number): void {
    notices.value = notices.value.filter((notice) => notice.id !== id);
}

export function tellError(error: unknown): void {
    if (error instanceof ApiError) {
        // The page asks for a new login then.
        if (error.status !== 401)
            add({ kind: 'failed', text: error.message, hint: [error.detail, error.hint].filter(Boolean).join(' ') });
    } else {
        add({ kind: 'failed', text: String(error) });
    }
}

/** Runs an action and tells what came of it: the text that it returns, or its error. */
export async function attempt(action: () => Promise<string | void>): Promise<boolean> {
    try {
        const text = await action();
        if (text) tell(text);
        return true;
    } catch (error) {
        tellError(error);
        return false;
    }
}

export interface Question {
    title: string;
    text: string;
    detail?: string;
    action: string;
    danger?: boolean;
    answer: (yes: boolean) => void;
}

export const question = signal<Question | undefined>(undefined);

export function ask(about: Omit<Question, 'answer'>): Promise<boolean> {
    return new Promise((resolve) => {
        question.value = {
            ...about,
            answer: (yes) => {
                question.value = undefined;
                resolve(yes);
            },
        };
    });
}

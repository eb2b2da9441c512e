// Dialogs are the browser's own: they hold the focus, close by Esc and give the focus back.
import type { ComponentChildren } from 'preact';
import { useId, useLayoutEffect, useRef } from 'preact/hooks';
import { question } from '../notices';
import { Icon } from './icons';

interface Props {
    title: string;
    onClose: () => void;
    children: ComponentChildren;
    class?: string;
    /** It stays until what it asks is done. */ stays?: boolean;
}

export function Dialog({ title, onClose, children, class: extra = '', stays }: Props) {
    const box = useRef<HTMLDialogElement>(null);
    const id = useId();
    useLayoutEffect(() => {
        const dialog = box.current!;
        const before = document.activeElement as HTMLElement | null;
        dialog.showModal();
        return () => {
            dialog.close();
            before?.focus?.();
        };
    }, []);
    return (
        <dialog
            ref={box}
            class={`dialog ${extra}`}
            aria-labelledby={id}
            onCancel={(event) => {
                event.preventDefault();
                if (!stays) onClose();
            }}
        >
            <header class="dialog-head">
                <h2 id={id}>{title}</h2>
                {!stays && (
                    <button type="button" class="icon-button" aria-label="Close" title="Close (Esc)" onClick={onClose}>
                        <Icon name="close" />
                    </button>
                )}
            </header>
            {children}
        </dialog>
    );
}

/** The question that ask() has put, if any. */
export function QuestionDialog() {
    const asked = question.value;
    if (!asked) return null;
    return (
        <Dialog title={asked.title} onClose={() => asked.answer(false)} class="dialog-small">
            <div class="dialog-body">
                <p>{asked.text}</p>
                {asked.detail && <p class="quiet">{asked.detail}</p>}
            </div>
            <footer class="dialog-foot">
                <button type="button" class="button" onClick={() => asked.answer(false)}>
                    Keep as it is
                </button>
                <button
                    type="button"
                    class={`button ${asked.danger ? 'button-danger' : 'button-main'}`}
                    autofocus
                    data-testid="confirm"
                    onClick={() => asked.answer(true)}
                >
                    {asked.action}
                </button>
            </footer>
        </Dialog>
    );
}

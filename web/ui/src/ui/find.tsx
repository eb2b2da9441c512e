// The search box for everything: what a text may mean, and the pages.
import { useId, useState } from 'preact/hooks';
import { findOpen, pages } from '../keys';
import { suggest } from '../query';
import { href, navigate } from '../router';
import { may } from '../session';
import { Dialog } from './dialog';
import { Icon, type IconName } from './icons';

interface Choice {
    label: string;
    detail: string;
    to: string;
    icon: IconName;
}

function choicesFor(text: string): Choice[] {
    const needle = text.trim().toLowerCase();
    const places = pages
        .filter((page) => may(page.right) && (!needle || page.name.toLowerCase().startsWith(needle)))
        .map((page) => ({
            label: page.name,
            detail: `page, g ${page.key}`,
            to: href(page.path),
            icon: page.icon as IconName,
        }));
    const meanings = suggest(text)
        .filter((found) => !found.right || may(found.right))
        .map((found) => ({
            label: found.label,
            detail: found.detail,
            to: found.path && href(found.path, found.params),
            icon: 'search' as IconName,
        }));
    return [...meanings, ...places];
}

export function Find() {
    const [text, setText] = useState('');
    const [at, setAt] = useState(0);
    const id = useId();
    const choices = choicesFor(text);
    const close = () => (findOpen.value = false);
    const go = (choice: Choice | undefined) => {
        if (!choice?.to) return;
        close();
        navigate(choice.to);
    };
    const onKey = (event: KeyboardEvent) => {
        const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        if (step) {
            event.preventDefault();
            setAt((at + step + choices.length) % Math.max(choices.length, 1));
        } else if (event.key === 'Enter') {
            event.preventDefault();
            go(choices[at]);
        }
    };
    return (
        <Dialog title="Find" onClose={close} class="dialog-find">
            <div class="find-input">
                <Icon name="search" />
                <input
                    type="text"
                    role="combobox"
                    aria-label="Find"
                    aria-expanded="true"
                    aria-controls={`${id}-list`}
                    aria-activedescendant={choices[at] ? `${id}-${at}` : undefined}
                    aria-autocomplete="list"
                    autofocus
                    autocomplete="off"
                    spellcheck={false}
                    placeholder='An id, key, task, queue, SQLSTATE, {"payload": …} or page'
                    value={text}
                    onInput={(event) => {
                        setText(event.currentTarget.value);
                        setAt(0);
                    }}
                    onKeyDown={onKey}
                />
            </div>
            <ul class="find-list" id={`${id}-list`} role="listbox" aria-label="What it may mean">
                {choices.map((choice, i) => (
                    <li
                        key={`${choice.label} ${choice.detail}`}
                        id={`${id}-${i}`}
                        role="option"
                        aria-selected={i === at}
                        onMouseMove={() => setAt(i)}
                        onClick={() => go(choice)}
                    >
                        <Icon name={choice.icon} />
                        <span class="cut find-label">{choice.label}</span>
                        <span class="quiet">{choice.detail}</span>
                    </li>
                ))}
                {!choices.length && (
                    <li class="quiet" role="option" aria-selected="false" aria-disabled="true">
                        Nothing that your role may see has this form.
                    </li>
                )}
            </ul>
        </Dialog>
    );
}

// What surrounds a list: its filters, the line with the count, the pages and what can be done with the selection.
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { count, number, plural } from '../format';
import type { List } from '../list';
import { place, setParams } from '../router';
import { Icon } from './icons';
import { Problem, Stale } from './problem';

export function Filters({ names, children }: { names: readonly string[]; children: ComponentChildren }) {
    const query = place.value.query;
    const active = names.filter((name) => query.has(name));
    const [isOpen, setOpen] = useState(false);
    return (
        <div class="filters" role="search" aria-label="Filter">
            <button type="button" class="button filters-toggle" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
                <Icon name="search" /> Filter{active.length ? ` (${active.length})` : ''}
            </button>
            <div class={`filters-fields ${isOpen ? 'is-open' : ''}`}>
                {children}
                <button
                    type="button"
                    class="link-button filters-clear"
                    disabled={!active.length}
                    onClick={() => setParams(Object.fromEntries(names.map((name) => [name, null])))}
                >
                    Clear
                </button>
            </div>
        </div>
    );
}

interface FieldProps {
    name: string;
    label: string;
    placeholder?: string;
    size?: number;
    /** What is wrong with a text. */ check?: (text: string) => string | undefined;
    mono?: boolean;
}

/** A text that filters: as it is typed, with a short delay. */
export function FilterText({ name, label, placeholder, size = 14, check, mono }: FieldProps) {
    const value = place.value.query.get(name) ?? '';
    const [, render] = useState(0);
    // What has been typed, and what the address said then: it counts until the address says something else.
    const typed = useRef({ text: value, over: value });
    if (typed.current.over !== value) typed.current = { text: value, over: value };
    const { text } = typed.current;
    const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
    const id = useId();
    useEffect(() => () => clearTimeout(timer.current), []);
    const problem = text ? check?.(text) : undefined;
    const apply = (to: string) => {
        clearTimeout(timer.current);
        const wanted = to.trim() || null;
        if (!(wanted && check?.(wanted)) && wanted !== place.peek().query.get(name))
            setParams({ [name]: wanted }, { replace: true });
    };
    return (
        <div class="field">
            <label for={id}>{label}</label>
            <input
                id={id}
                type="text"
                name={name}
                value={text}
                size={size}
                placeholder={placeholder}
                class={mono ? 'mono' : ''}
                autocomplete="off"
                spellcheck={false}
                aria-invalid={problem ? true : undefined}
                title={problem}
                onInput={(event) => {
                    const now = event.currentTarget.value;
                    typed.current = { text: now, over: place.peek().query.get(name) ?? '' };
                    render((n) => n + 1);
                    clearTimeout(timer.current);
                    timer.current = setTimeout(() => apply(now), 400);
                }}
                onKeyDown={(event) => {
                    if (event.key === 'Enter') apply(event.currentTarget.value);
                    if (event.key === 'Escape') event.currentTarget.blur();
                }}
                onBlur={(event) => apply(event.currentTarget.value)}
            />
        </div>
    );
}

export function FilterSelect({ name, label, options }: { name: string; label: string; options: [string, string][] }) {
    const value = place.value.query.get(name) ?? '';
    const id = useId();
    return (
        <div class="field">
            <label for={id}>{label}</label>
            <select
                id={id}
                name={name}
                value={value}
                onChange={(event) => setParams({ [name]: event.currentTarget.value || null })}
            >
                <option value="">any</option>
                {options.map(([option, text]) => (
                    <option key={option} value={option}>
                        {text}
                    </option>
                ))}
            </select>
        </div>
    );
}

/** Times are typed in the zone that is shown, and stand in the address with their own. */
export function FilterTime({
    name,
    label,
    read,
    write,
}: {
    name: string;
    label: string;
    read: (at: string) => string;
    write: (text: string) => string | undefined;
}) {
    const value = place.value.query.get(name);
    const id = useId();
    return (
        <div class="field">
            <label for={id}>{label}</label>
            <input
                id={id}
                type="datetime-local"
                name={name}
                value={value ? read(value) : ''}
                onChange={(event) => setParams({ [name]: write(event.currentTarget.value) ?? null })}
            />
        </div>
    );
}

interface ListHeadProps<T> {
    list: List<T>;
    one: string;
    many?: string;
    /** Buttons for what is selected. */ children?: ComponentChildren;
    canSelectAll?: boolean;
}

export function ListHead<T>({ list, one, many = `${one}s`, children, canSelectAll = true }: ListHeadProps<T>) {
    const { selection, total, rows } = list;
    const some = selection.all || selection.keys.size > 0;
    // Screen readers hear what a filter has found, not each refresh.
    const [found, setFound] = useState('');
    const isThere = rows !== undefined && !list.resource.pending;
    useEffect(() => {
        if (isThere) setFound(`${total ? count(total) : number(rows.length)} ${many}`);
    }, [JSON.stringify(list.filter), isThere]);
    return (
        <div class="list-head" data-testid="list-head">
            {some && children ? (
                <div class="list-selection">
                    <strong>
                        {selection.all
                            ? `All ${count(total)} ${many}${list.isFiltered ? ' that the filter shows' : ''}`
                            : `${plural(selection.keys.size, one, many)} selected`}
                    </strong>
                    {!selection.all && canSelectAll && total && (total.capped || total.count > selection.keys.size) && (
                        <button
                            type="button"
                            class="link-button"
                            data-testid="select-all"
                            onClick={selection.selectAll}
                        >
                            Select all {count(total)}
                        </button>
                    )}
                    <button type="button" class="link-button" onClick={selection.clear}>
                        Clear
                    </button>
                    <span class="list-actions">{children}</span>
                </div>
            ) : (
                <div class="list-count">
                    {total ? (
                        <>
                            <strong>{count(total)}</strong> {total.count === 1 && !total.capped ? one : many}
                        </>
                    ) : (
                        !!rows?.length && `${plural(rows.length, one, many)} on this page`
                    )}
                    {list.cutOff && (
                        <span class="cut-off">
                            <Icon name="info" />
                            The search ended early
                            {list.forward ? ': “Next” goes on from there.' : '; narrow the filter to see all.'}
                        </span>
                    )}
                </div>
            )}
            <span class="unseen" role="status">
                {found}
            </span>
            <Pager list={list} />
        </div>
    );
}

export function Pager<T>({ list }: { list: List<T> }) {
    if (!list.first && !list.forward) return null;
    return (
        <nav class="pager" aria-label="Pages of the list">
            <button
                type="button"
                class="icon-button"
                aria-label="First page"
                title="First page"
                disabled={!list.first}
                onClick={list.first}
            >
                <Icon name="first" />
            </button>
            <button type="button" class="button button-small" disabled={!list.back} onClick={list.back}>
                <Icon name="left" /> Previous
            </button>
            <button type="button" class="button button-small" disabled={!list.forward} onClick={list.forward}>
                Next <Icon name="right" />
            </button>
        </nav>
    );
}

/** The problem in place of the list, or above it while the list is old. */
export function ListProblem<T>({ list }: { list: List<T> }) {
    const { error, data, at, reload } = list.resource;
    if (!error || error.status === 401) return null;
    // A cursor that the server does not take (any more) leads nowhere; the first page is always there.
    if (error.status === 400 && list.first) return <Problem error={error} retry={list.first} label="First page" />;
    return data === undefined || !error.isPassing ? (
        <Problem error={error} retry={() => void reload()} />
    ) : (
        <Stale error={error} at={at} retry={() => void reload()} />
    );
}

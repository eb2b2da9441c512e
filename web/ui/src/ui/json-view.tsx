// JSON with colours, that can be folded. Texts are only ever text: nothing in a payload becomes markup.
import { useState } from 'preact/hooks';
import { isRawNumber, stringify } from '../json';
import { bytes } from '../format';
import type { Json } from '../types';
import { CopyButton } from './basics';
import { Icon } from './icons';

/** Larger arrays and objects are shown in parts. */
const step = 100;
/** What is nested deeper than this is folded at first. */
const openDepth = 3;

function Scalar({ value }: { value: Json }) {
    if (value !== null && isRawNumber(value)) return <span class="j-number">{value.raw}</span>;
    if (typeof value === 'string') return <span class="j-string">{JSON.stringify(value)}</span>;
    if (typeof value === 'number') return <span class="j-number">{String(value)}</span>;
    return <span class="j-word">{String(value)}</span>;
}

function isBranch(value: Json): value is Json[] | { [key: string]: Json } {
    return value !== null && typeof value === 'object' && !isRawNumber(value);
}

function Node({ name, value, depth, last }: { name?: string; value: Json; depth: number; last: boolean }) {
    const key =
        name === undefined ? null : (
            <>
                <span class="j-key">{JSON.stringify(name)}</span>
                {': '}
            </>
        );
    if (!isBranch(value))
        return (
            <div class="j-line">
                {key}
                <Scalar value={value} />
                {!last && ','}
            </div>
        );
    return <Branch head={key} value={value} depth={depth} last={last} />;
}

function Branch({
    head,
    value,
    depth,
    last,
}: {
    head: preact.ComponentChildren;
    value: Json[] | { [key: string]: Json };
    depth: number;
    last: boolean;
}) {
    const isArray = Array.isArray(value);
    const entries: [string, Json][] = Object.entries(value);
    const [isOpen, setOpen] = useState(depth < openDepth && entries.length <= step);
    const [shown, setShown] = useState(step);
    const [open, close] = isArray ? '[]' : '{}';
    if (!entries.length)
        return (
            <div class="j-line">
                {head}
                {open}
                {close}
                {!last && ','}
            </div>
        );
    return (
        <div class="j-branch">
            <div class="j-line">
                <button
                    type="button"
                    class="j-fold"
                    aria-expanded={isOpen}
                    aria-label={isOpen ? 'Fold' : 'Unfold'}
                    onClick={() => setOpen(!isOpen)}
                >
                    <Icon name={isOpen ? 'down' : 'right'} />
                </button>
                {head}
                {open}
                {!isOpen && (
                    <>
                        <button type="button" class="j-more" onClick={() => setOpen(true)}>
                            {isArray
                                ? `${entries.length} elements`
                                : `${entries.length} ${entries.length === 1 ? 'key' : 'keys'}`}
                        </button>
                        {close}
                        {!last && ','}
                    </>
                )}
            </div>
            {isOpen && (
                <>
                    <div class="j-inside">
                        {entries.slice(0, shown).map(([key, each], i) => (
                            <Node
                                key={key}
                                name={isArray ? undefined : key}
                                value={each}
                                depth={depth + 1}
                                last={i === entries.length - 1}
                            />
                        ))}
                        {entries.length > shown && (
                            <button type="button" class="j-more" onClick={() => setShown(shown + step * 10)}>
                                {entries.length - shown} more
                            </button>
                        )}
                    </div>
                    <div class="j-line">
                        {close}
                        {!last && ','}
                    </div>
                </>
            )}
        </div>
    );
}

export function JsonView({ value, label }: { value: Json; label: string }) {
    const [isPlain, setPlain] = useState(false);
    const text = stringify(value, 2);
    return (
        <div class="json" data-testid="json">
            <div class="json-tools">
                {text.length > 2000 && <span class="quiet">{bytes(text.length)}</span>}
                <button type="button" class="link-button" aria-pressed={isPlain} onClick={() => setPlain(!isPlain)}>
                    as text
                </button>
                <CopyButton text={text} label={`Copy ${label}`} />
            </div>
            <div class="json-body" role="group" aria-label={label} tabIndex={0}>
                {isPlain ? <pre>{text}</pre> : <Node value={value} depth={0} last />}
            </div>
        </div>
    );
}

// A table of things with keys: rows keep their place and selection while the data is refreshed. On narrow screens rows
// become cards, in which each cell has its column's name. j and k move, Enter opens, x selects.
import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { registerTable } from '../keys';
import { navigate } from '../router';
import type { Selection } from '../selection';

export interface Column<T> {
    name: string;
    cell: (row: T) => ComponentChildren;
    /** Numbers stand on the right. */
    number?: boolean;
    /** The head of a card. */
    lead?: boolean;
    /** On a card it stands beside the head. */
    beside?: boolean;
    /** On a card it needs no name. */
    bare?: boolean;
    /** Left out where there is little room. */
    optional?: boolean;
    /** Takes the room that the others leave. */
    wide?: boolean;
    /** Shown to screen readers only. */
    hideName?: boolean;
}

interface Props<T> {
    label: string;
    columns: Column<T>[];
    rows: T[] | undefined;
    rowKey: (row: T) => string;
    /** What a row leads to. */
    href?: (row: T) => string | undefined;
    selection?: Selection;
    rowName?: (row: T) => string;
    rowClass?: (row: T) => string;
    /** Shown below the row if there is something. */
    below?: (row: T) => ComponentChildren;
    /** In place of rows. */
    empty?: ComponentChildren;
    pending?: boolean;
    /** There are no rows because of an error, which is shown elsewhere. */
    failed?: boolean;
    testid?: string;
}

function Skeleton({ columns, count }: { columns: number; count: number }) {
    return (
        <>
            {Array.from({ length: count }, (_, i) => (
                <tr key={i} class="skeleton-row" aria-hidden="true">
                    <td colSpan={columns}>
                        <span class="skeleton" style={{ width: `${55 + ((i * 37) % 40)}%` }} />
                    </td>
                </tr>
            ))}
        </>
    );
}

/** Texts that are being marked and controls inside of a row are not clicks on the row. */
function isClickOnRow(event: MouseEvent): boolean {
    const inside = (event.target as Element).closest('a, button, input, label, select, summary, textarea');
    return !inside && !getSelection()?.toString();
}

export function DataTable<T>(props: Props<T>) {
    const { columns, rows, rowKey, selection } = props;
    const [active, setActive] = useState<string | undefined>(undefined);
    const body = useRef<HTMLTableSectionElement>(null);
    const latest = useRef({ props, active });
    latest.current = { props, active };

    useEffect(
        () =>
            registerTable({
                move(step) {
                    const { rows: all = [], rowKey: key } = latest.current.props;
                    if (!all.length) return;
                    const at = all.findIndex((row) => key(row) === latest.current.active);
                    const next = key(
                        all[
                            at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + step, 0), all.length - 1)
                        ]!,
                    );
                    setActive(next);
                    const line = body.current?.querySelector<HTMLElement>(`[data-key="${CSS.escape(next)}"]`);
                    line?.scrollIntoView({ block: 'nearest' });
                    line?.focus({ preventScroll: true });
                },
                open() {
                    const row = latest.current.props.rows?.find(
                        (each) => latest.current.props.rowKey(each) === latest.current.active,
                    );
                    const to = row && latest.current.props.href?.(row);
                    if (to) navigate(to);
                },
                toggle() {
                    const { active: key, props: now } = latest.current;
                    if (key !== undefined && now.selection && now.rows?.some((row) => now.rowKey(row) === key))
                        now.selection.toggle(key);
                },
            }),
        [],
    );

    if (!rows && props.failed) return null;
    const keys = rows?.map(rowKey) ?? [];
    const width = columns.length + (selection ? 1 : 0);
    const chosen = keys.filter((key) => selection?.has(key)).length;
    return (
        <div class={`table-box ${props.pending ? 'pending' : ''}`} data-testid={props.testid}>
            <table
                class={`table ${selection ? 'table-selects' : ''}`}
                aria-label={props.label}
                aria-busy={!rows || props.pending}
            >
                <thead>
                    <tr>
                        {selection && (
                            <th scope="col" class="pick">
                                <input
                                    type="checkbox"
                                    aria-label="Select all on this page"
                                    checked={keys.length > 0 && chosen === keys.length}
                                    ref={(box) => {
                                        if (box) box.indeterminate = chosen > 0 && chosen < keys.length;
                                    }}
                                    disabled={!keys.length}
                                    onChange={() => selection.togglePage(keys)}
                                />
                            </th>
                        )}
                        {columns.map((column) => (
                            <th key={column.name} scope="col" class={classes(column)}>
                                {column.hideName ? <span class="unseen">{column.name}</span> : column.name}
                            </th>
                        ))}
                    </tr>
                </thead>
                <tbody ref={body}>
                    {!rows && <Skeleton columns={width} count={8} />}
                    {rows?.map((row, i) => {
                        const key = keys[i]!;
                        const to = props.href?.(row);
                        const below = props.below?.(row);
                        const line = (
                            <tr
                                key={key}
                                data-key={key}
                                tabIndex={-1}
                                class={`${to ? 'opens' : ''} ${active === key ? 'active' : ''} ${selection?.has(key) ? 'selected' : ''} ${below ? 'has-below' : ''} ${props.rowClass?.(row) ?? ''}`}
                                onClick={(event) => {
                                    setActive(key);
                                    if (to && isClickOnRow(event)) navigate(to);
                                }}
                            >
                                {selection && (
                                    <td class="pick">
                                        <input
                                            type="checkbox"
                                            aria-label={`Select ${props.rowName?.(row) ?? key}`}
                                            checked={selection.has(key)}
                                            onChange={() => selection.toggle(key)}
                                        />
                                    </td>
                                )}
                                {columns.map((column) => (
                                    <td
                                        key={column.name}
                                        class={classes(column)}
                                        data-label={column.hideName || column.bare || column.beside ? '' : column.name}
                                    >
                                        {column.cell(row)}
                                    </td>
                                ))}
                            </tr>
                        );
                        if (!below) return line;
                        return [
                            line,
                            <tr key={`${key} below`} class="below">
                                <td colSpan={width}>{below}</td>
                            </tr>,
                        ];
                    })}
                    {rows && !rows.length && (
                        <tr class="empty-row">
                            <td colSpan={width}>{props.empty ?? 'Nothing here.'}</td>
                        </tr>
                    )}
                </tbody>
            </table>
        </div>
    );
}

function classes(column: Column<never>): string {
    return [
        column.number && 'number',
        column.lead && 'lead',
        column.beside && 'beside',
        column.hideName && 'acts',
        column.optional && 'optional',
        column.wide && 'wide',
    ]
        .filter(Boolean)
        .join(' ');
}

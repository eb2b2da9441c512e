// Which role has changed what: calls by this page, by other programs, and by psql.
import { useState } from 'preact/hooks';
import { number, words } from '../format';
import { useList } from '../list';
import { auditFilters } from '../query';
import { href, segment } from '../router';
import { may } from '../session';
import type { AuditEntry } from '../types';
import { Cut, Empty, Facts, LongTime, None, Time } from '../ui/basics';
import { Icon } from '../ui/icons';
import { JsonView } from '../ui/json-view';
import { FilterText, FilterTime, Filters, ListHead, ListProblem } from '../ui/list-view';
import { PageHead } from '../ui/shell';
import { DataTable, type Column } from '../ui/table';
import { timeFilter } from './dead-letters';

/** Where an object of an entry is shown. */
function ObjectLink({ kind, name }: { kind: string | null; name: string }) {
    const to = {
        job: ['jobs.get', '/jobs'],
        queue: ['queues.get', '/queues'],
        dead_letter: ['dlq.get', '/dlq'],
        letter: ['dlq.get', '/dlq'],
    }[kind ?? ''];
    return to && may(to[0]!) ? (
        <a class="mono" href={href(`${to[1]}/${segment(name)}`)}>
            {name}
        </a>
    ) : (
        <span class="mono">{name}</span>
    );
}

function Objects({ entry, most }: { entry: AuditEntry; most: number }) {
    const objects = entry.objects ?? [];
    if (!objects.length) return <None />;
    return (
        <>
            {objects.slice(0, most).map((name, i) => (
                <span key={name}>
                    {i > 0 && ', '}
                    <ObjectLink kind={entry.kind} name={name} />
                </span>
            ))}
            {objects.length > most && <span class="quiet"> and {number(objects.length - most)} more</span>}
        </>
    );
}

function Details({ entry }: { entry: AuditEntry }) {
    return (
        <div class="audit-details">
            <Facts
                items={[
                    ['At', <LongTime at={entry.at} />],
                    ['Session user', entry.actor],
                    ['Acting as', entry.role],
                    ['From', entry.client_addr ?? <None>a local socket</None>],
                    ['Program', entry.application_name],
                    [
                        'Objects',
                        <span class="wrap">
                            <Objects entry={entry} most={200} />
                        </span>,
                    ],
                ]}
            />
            {entry.before != null && (
                <div>
                    <h2>Before</h2>
                    <JsonView value={entry.before} label="the values before" />
                </div>
            )}
            {entry.after != null && (
                <div>
                    <h2>After</h2>
                    <JsonView value={entry.after} label="the values after" />
                </div>
            )}
        </div>
    );
}

export function Audit() {
    const list = useList<AuditEntry>('/audit', 'entries', auditFilters);
    const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
    const toggle = (id: string) => {
        const next = new Set(open);
        if (!next.delete(id)) next.add(id);
        setOpen(next);
    };
    const columns: Column<AuditEntry>[] = [
        {
            name: 'Action',
            lead: true,
            cell: (entry) => (
                <button
                    type="button"
                    class="expander"
                    aria-expanded={open.has(entry.id)}
                    onClick={() => toggle(entry.id)}
                >
                    <Icon name={open.has(entry.id) ? 'down' : 'right'} /> {words(entry.action)}
                </button>
            ),
        },
        {
            name: 'Role',
            cell: (entry) =>
                entry.role && entry.role !== entry.actor ? (
                    <>
                        {entry.actor} <span class="quiet">as {entry.role}</span>
                    </>
                ) : (
                    entry.actor
                ),
        },
        {
            name: 'Objects',
            wide: true,
            cell: (entry) => (
                <span class="cut">
                    <Objects entry={entry} most={3} />
                </span>
            ),
        },
        { name: 'Number', number: true, cell: (entry) => (entry.count == null ? <None /> : number(entry.count)) },
        {
            name: 'Program',
            optional: true,
            cell: (entry) => (entry.application_name ? <Cut text={entry.application_name} /> : <None />),
        },
        { name: 'From', optional: true, cell: (entry) => entry.client_addr ?? <None>local</None> },
        { name: 'When', cell: (entry) => <Time at={entry.at} /> },
    ];
    return (
        <>
            <PageHead title="Audit" />
            <Filters names={auditFilters}>
                <FilterText name="actor" label="Role" />
                <FilterText name="action" label="Action" />
                <FilterText name="object" label="Object" />
                <FilterTime name="after" label="From" {...timeFilter} />
                <FilterTime name="before" label="to" {...timeFilter} />
            </Filters>
            <ListProblem list={list} />
            <ListHead list={list} one="entry" many="entries" />
            <DataTable
                testid="audit"
                label="Audit"
                columns={columns}
                rows={list.rows}
                rowKey={(entry) => entry.id}
                pending={list.resource.pending}
                failed={!!list.resource.error}
                below={(entry) => open.has(entry.id) && <Details entry={entry} />}
                empty={
                    list.isFiltered ? (
                        <Empty title="No entry passes this filter." icon="search" />
                    ) : (
                        <Empty title="No role has changed anything yet." icon="pen">
                            <p>
                                Calls that change jobs, queues, schedules, tasks or dead letters are noted here, also
                                when they come by psql.
                            </p>
                        </Empty>
                    )
                }
            />
        </>
    );
}

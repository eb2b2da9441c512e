// Jobs that failed for good: grouped by cause, and one by one.
import { useState } from 'preact/hooks';
import { api, type ApiError } from '../api';
import { conditionName, count, fromLocalInput, number, parseTime, plural, toLocalInput } from '../format';
import { useList } from '../list';
import { ask, attempt, tell } from '../notices';
import { timeZone, zone } from '../prefs';
import { letterFilters, readFilter } from '../query';
import { useResource } from '../resource';
import { href, place, setParams } from '../router';
import { chosenBody, chosenCount, chosenRest, mostAtOnce } from '../selection';
import { may } from '../session';
import type { Letter, LetterGroup } from '../types';
import { Counted, Cut, Empty, JobLink, None, QueueName, State, TaskName, Time } from '../ui/basics';
import { Dialog } from '../ui/dialog';
import { TextField } from '../ui/form';
import { FormError } from '../ui/form-error';
import { Icon } from '../ui/icons';
import { FilterText, FilterTime, Filters, ListHead, ListProblem } from '../ui/list-view';
import { Problem, Stale } from '../ui/problem';
import { PageHead } from '../ui/shell';
import { DataTable, type Column } from '../ui/table';
import { optional } from './enqueue';

interface Affected {
    affected: number;
    more: boolean;
}
const rest = (more: boolean) => (more ? ' There are more that pass the filter.' : '');

export const timeFilter = {
    read: (at: string) => {
        const ms = parseTime(at);
        return ms === undefined ? '' : toLocalInput(ms, timeZone() === 'UTC').slice(0, 16);
    },
    write: (text: string) => fromLocalInput(text, zone.value === 'utc'),
};

export function Sqlstate({ code }: { code: string | null | undefined }) {
    if (!code) return <None>none</None>;
    const name = conditionName(code);
    return (
        <span title={name}>
            <span class="sqlstate">{code}</span> {name && <span class="quiet condition">{name}</span>}
        </span>
    );
}

/** Requeues many letters, with a note. what: the part of the body that says which. */
function RequeueDialog({
    n,
    note,
    body,
    onClose,
    onDone,
}: {
    n: number;
    note: string;
    body: () => Record<string, unknown>;
    onClose: () => void;
    onDone: () => void;
}) {
    const [notes, setNotes] = useState('');
    const [error, setError] = useState<ApiError>();
    const submit = async (event: Event) => {
        event.preventDefault();
        setError(undefined);
        try {
            const { affected, more } = await api.post<Affected>('/dlq/requeue', { ...body(), notes: optional(notes) });
            onClose();
            tell(`${plural(affected, 'job')} requeued.${rest(more)}`);
            onDone();
        } catch (problem) {
            setError(problem as ApiError);
        }
    };
    return (
        <Dialog title={`Requeue ${plural(n, 'dead letter')}?`} onClose={onClose} class="dialog-small">
            <form onSubmit={submit} data-testid="requeue-form">
                <div class="dialog-body">
                    <p>
                        Their jobs run again, under their old ids and with all their attempts. A letter goes when its
                        job succeeds.
                    </p>
                    {note && <p>{note}</p>}
                    <TextField label="Note" value={notes} onChange={setNotes} placeholder="why, if you like" />
                    <FormError error={error} />
                </div>
                <footer class="dialog-foot">
                    <button type="button" class="button" onClick={onClose}>
                        Keep as it is
                    </button>
                    <button type="submit" class="button button-main" data-testid="requeue-submit">
                        Requeue {number(n)}
                    </button>
                </footer>
            </form>
        </Dialog>
    );
}

async function deleteLetters(n: number, note: string, body: () => Record<string, unknown>): Promise<boolean> {
    const sure = await ask({
        title: `Delete ${plural(n, 'dead letter')}?`,
        text: 'Their payloads and errors are gone for good.',
        detail: note,
        action: `Delete ${number(n)}`,
        danger: true,
    });
    return (
        sure &&
        attempt(async () => {
            const { affected, more } = await api.post<Affected>('/dlq/delete', body());
            return `${plural(affected, 'dead letter')} deleted.${rest(more)}`;
        })
    );
}

const groupKey = (group: LetterGroup) => `${group.task_identifier} ${group.sqlstate ?? ''}`;

function Groups() {
    const groups = useResource<{ groups: LetterGroup[]; cut_off: boolean }>('/dlq/groups', {}, { keep: true });
    const [requeued, setRequeued] = useState<LetterGroup>();
    const filterOf = (group: LetterGroup) => ({
        task_identifier: group.task_identifier,
        sqlstate: group.sqlstate ?? '',
    });
    const numberOf = (group: LetterGroup) => Math.min(group.letters.count, mostAtOnce);
    const bodyOf = (group: LetterGroup) => () => ({ filter: filterOf(group), max: numberOf(group) });
    const noteOf = (group: LetterGroup) =>
        group.letters.capped
            ? `There are ${count(group.letters)}; one call acts on the newest ${number(numberOf(group))}. Repeat it for the rest.`
            : '';
    const link = (group: LetterGroup) => href('/dlq', filterOf(group));
    const columns: Column<LetterGroup>[] = [
        {
            name: 'Task',
            lead: true,
            cell: (group) => (
                <a class="name cut" href={link(group)}>
                    {group.task_identifier}
                </a>
            ),
        },
        { name: 'SQLSTATE', bare: true, cell: (group) => <Sqlstate code={group.sqlstate} /> },
        { name: 'Letters', number: true, beside: true, cell: (group) => <Counted value={group.letters} /> },
        {
            name: 'Newest message',
            wide: true,
            bare: true,
            cell: (group) => (group.sample ? <Cut text={group.sample} /> : <None />),
        },
        { name: 'Newest', cell: (group) => <Time at={group.newest} /> },
        { name: 'Oldest', optional: true, cell: (group) => <Time at={group.oldest} /> },
        ...(may('dlq.requeue_many') || may('dlq.delete_many')
            ? [
                  {
                      name: 'Actions',
                      hideName: true,
                      cell: (group: LetterGroup) => (
                          <span class="row-actions">
                              {may('dlq.requeue_many') && (
                                  <button type="button" class="button button-small" onClick={() => setRequeued(group)}>
                                      <Icon name="again" /> Requeue …
                                  </button>
                              )}
                              {may('dlq.delete_many') && (
                                  <button
                                      type="button"
                                      class="icon-button"
                                      title="Delete all of this group"
                                      aria-label={`Delete all letters of ${group.task_identifier}, ${group.sqlstate ?? 'without SQLSTATE'}`}
                                      onClick={() =>
                                          void deleteLetters(numberOf(group), noteOf(group), bodyOf(group)).then(() =>
                                              groups.reload(),
                                          )
                                      }
                                  >
                                      <Icon name="trash" />
                                  </button>
                              )}
                          </span>
                      ),
                  },
              ]
            : []),
    ];
    return (
        <>
            {groups.error &&
                groups.error.status !== 401 &&
                (groups.data ? (
                    <Stale error={groups.error} at={groups.at} retry={() => void groups.reload()} />
                ) : (
                    <Problem error={groups.error} retry={() => void groups.reload()} />
                ))}
            <div class="list-head">
                <div class="list-count">
                    {groups.data && plural(groups.data.groups.length, 'cause')}
                    {groups.data?.cut_off && <span class="cut-off">More than 500; these are the first by name.</span>}
                </div>
            </div>
            {!(groups.error && !groups.data) && (
                <DataTable
                    testid="dlq-groups"
                    label="Dead letters by cause"
                    columns={columns}
                    rows={groups.data?.groups}
                    rowKey={groupKey}
                    href={link}
                    empty={<NoLetters />}
                />
            )}
            {requeued && (
                <RequeueDialog
                    n={numberOf(requeued)}
                    note={noteOf(requeued)}
                    body={bodyOf(requeued)}
                    onClose={() => setRequeued(undefined)}
                    onDone={() => void groups.reload()}
                />
            )}
        </>
    );
}

function NoLetters() {
    return (
        <Empty title="No job has failed for good." icon="ok">
            <p>
                A job comes here when its attempts are used up, or when its error would only occur again. It waits here
                until you requeue or delete it.
            </p>
        </Empty>
    );
}

const columns: Column<Letter>[] = [
    {
        name: 'Letter',
        lead: true,
        cell: (letter) =>
            may('dlq.get') ? (
                <a class="mono" href={href(`/dlq/${letter.id}`)}>
                    {letter.id}
                </a>
            ) : (
                <span class="mono">{letter.id}</span>
            ),
    },
    { name: 'Task', cell: (letter) => <TaskName name={letter.task_identifier} /> },
    {
        name: 'SQLSTATE',
        beside: true,
        cell: (letter) =>
            letter.last_error?.sqlstate ? (
                <span class="sqlstate" title={conditionName(letter.last_error.sqlstate)}>
                    {letter.last_error.sqlstate}
                </span>
            ) : (
                <None />
            ),
    },
    {
        name: 'Reason',
        wide: true,
        bare: true,
        cell: (letter) => (letter.failure_reason ? <Cut text={letter.failure_reason} /> : <None />),
    },
    { name: 'Queue', optional: true, cell: (letter) => <QueueName name={letter.queue_name} /> },
    {
        name: 'Attempts',
        number: true,
        optional: true,
        cell: (letter) => (
            <span class="num">
                {letter.failure_count} <span class="quiet">/ {letter.max_attempts}</span>
            </span>
        ),
    },
    {
        name: 'Job',
        cell: (letter) =>
            letter.waiting ? (
                <span class="requeued">
                    <State name="waiting" label="requeued" /> <JobLink id={letter.original_job_id} />
                </span>
            ) : (
                <JobLink id={letter.original_job_id} />
            ),
    },
    { name: 'Failed', cell: (letter) => <Time at={letter.failed_at} /> },
];

function Letters() {
    const list = useList<Letter>('/dlq', 'letters', letterFilters);
    const [requeueing, setRequeueing] = useState(false);
    const { selection, filter, total } = list;
    const n = chosenCount(selection, total);
    const body = () => chosenBody(selection, filter, total);
    const done = () => {
        selection.clear();
        void list.resource.reload();
    };
    const canAct = may('dlq.requeue_many') || may('dlq.delete_many');
    return (
        <>
            <Filters names={letterFilters}>
                <FilterText name="task_identifier" label="Task" size={18} />
                <FilterText name="queue_name" label="Queue" size={10} />
                <FilterText name="sqlstate" label="SQLSTATE" size={6} mono />
                <FilterText name="job_key" label="Key" size={10} />
                <FilterText name="search" label="Reason contains" size={20} />
                <FilterTime name="failed_after" label="Failed from" {...timeFilter} />
                <FilterTime name="failed_before" label="to" {...timeFilter} />
            </Filters>
            <ListProblem list={list} />
            <ListHead list={list} one="dead letter">
                {may('dlq.requeue_many') && (
                    <button
                        type="button"
                        class="button button-small"
                        data-testid="requeue-many"
                        onClick={() => setRequeueing(true)}
                    >
                        <Icon name="again" /> Requeue {number(n)} …
                    </button>
                )}
                {may('dlq.delete_many') && (
                    <button
                        type="button"
                        class="button button-small button-danger"
                        data-testid="delete-many"
                        onClick={() =>
                            void deleteLetters(n, chosenRest(selection, total), body).then((sure) => sure && done())
                        }
                    >
                        <Icon name="trash" /> Delete {number(n)} …
                    </button>
                )}
            </ListHead>
            <DataTable
                testid="letters"
                label="Dead letters"
                columns={columns}
                rows={list.rows}
                rowKey={(letter) => letter.id}
                rowName={(letter) => `dead letter ${letter.id}`}
                href={(letter) => (may('dlq.get') ? href(`/dlq/${letter.id}`) : undefined)}
                selection={canAct ? selection : undefined}
                pending={list.resource.pending}
                failed={!!list.resource.error}
                empty={
                    list.isFiltered ? (
                        <Empty title="No dead letter passes this filter." icon="search">
                            <button
                                type="button"
                                class="button"
                                onClick={() => setParams(Object.fromEntries(letterFilters.map((name) => [name, null])))}
                            >
                                Clear the filter
                            </button>
                        </Empty>
                    ) : (
                        <NoLetters />
                    )
                }
            />
            {requeueing && (
                <RequeueDialog
                    n={n}
                    note={chosenRest(selection, total)}
                    body={body}
                    onClose={() => setRequeueing(false)}
                    onDone={done}
                />
            )}
        </>
    );
}

export function DeadLetters() {
    const query = place.value.query;
    const isFiltered = Object.keys(readFilter(query, letterFilters)).length > 0;
    const showsLetters = isFiltered || query.get('view') === 'letters' || query.has('cursor') || !may('dlq.groups');
    return (
        <>
            <PageHead title="Dead letters" />
            {may('dlq.groups') && (
                <nav class="tabs" aria-label="Views of the dead letters">
                    <a href={href('/dlq')} aria-current={showsLetters ? undefined : 'page'}>
                        By cause
                    </a>
                    <a href={href('/dlq', { view: 'letters' })} aria-current={showsLetters ? 'page' : undefined}>
                        {isFiltered ? 'Filtered letters' : 'All letters'}
                    </a>
                </nav>
            )}
            {showsLetters ? <Letters /> : <Groups />}
        </>
    );
}

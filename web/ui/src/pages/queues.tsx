// Queues with their limits, and what can be done with one; queue.tsx shows one of them.
import { useState } from 'preact/hooks';
import { api, type ApiError } from '../api';
import { duration, number } from '../format';
import { useList } from '../list';
import { ask, attempt, tell } from '../notices';
import { href, segment } from '../router';
import { may } from '../session';
import type { Queue } from '../types';
import { Counted, Empty, None, QueueName, State, Time } from '../ui/basics';
import { Dialog } from '../ui/dialog';
import { TextField } from '../ui/form';
import { FormError } from '../ui/form-error';
import { Icon } from '../ui/icons';
import { FilterText, Filters, ListHead, ListProblem } from '../ui/list-view';
import { PageHead } from '../ui/shell';
import { DataTable, type Column } from '../ui/table';
import { optionalNumber } from './enqueue';

export function rateText(queue: Queue): string | null {
    return queue.rate_limit == null
        ? null
        : `${number(queue.rate_limit)} per ${duration(queue.rate_period ?? 1).replace(/^1 /, '')}`;
}

const names = ['search'] as const;

/** Pause or resume, limits, delete. */
export function QueueActions({ queue, reload, small }: { queue: Queue; reload: () => Promise<void>; small?: boolean }) {
    const [editing, setEditing] = useState(false);
    const name = queue.queue_name;
    const to = `/queues/${segment(name)}`;
    const size = small ? 'button-small' : '';
    const pause = () =>
        attempt(async () => (await api.post(`${to}/pause`), `Queue ${name} starts no more jobs.`)).then(reload);
    const resume = () => attempt(async () => (await api.post(`${to}/resume`), `Queue ${name} goes on.`)).then(reload);
    const remove = async () => {
        const sure = await ask({
            title: `Delete queue ${name}?`,
            text: 'Its limits are forgotten. The server refuses while jobs are in the queue.',
            action: 'Delete the queue',
            danger: true,
        });
        if (sure) await attempt(async () => (await api.delete(to), `Queue ${name} is deleted.`)).then(reload);
    };
    return (
        <span class="row-actions">
            {queue.paused
                ? may('queues.resume') && (
                      <button type="button" class={`button ${size}`} data-testid="resume" onClick={() => void resume()}>
                          <Icon name="play" /> Resume
                      </button>
                  )
                : may('queues.pause') && (
                      <button type="button" class={`button ${size}`} data-testid="pause" onClick={() => void pause()}>
                          <Icon name="pause" /> Pause
                      </button>
                  )}
            {may('queues.set') && (
                <button type="button" class={`button ${size}`} data-testid="limits" onClick={() => setEditing(true)}>
                    Limits …
                </button>
            )}
            {may('queues.delete') && (
                <button
                    type="button"
                    class="icon-button"
                    data-testid="delete"
                    title={`Delete queue ${name}`}
                    aria-label={`Delete queue ${name}`}
                    onClick={() => void remove()}
                >
                    <Icon name="trash" />
                </button>
            )}
            {editing && <LimitsDialog queue={queue} onClose={() => setEditing(false)} onDone={() => void reload()} />}
        </span>
    );
}

/** queue without a name: a new one. */
export function LimitsDialog({ queue, onClose, onDone }: { queue?: Queue; onClose: () => void; onDone: () => void }) {
    const text = (value: number | null | undefined) => (value == null ? '' : String(value));
    const [name, setName] = useState(queue?.queue_name ?? '');
    const [concurrency, setConcurrency] = useState(text(queue?.concurrency));
    const [rate, setRate] = useState(text(queue?.rate_limit));
    const [period, setPeriod] = useState(text(queue?.rate_period));
    const [depth, setDepth] = useState(text(queue?.max_depth));
    const [error, setError] = useState<ApiError>();
    const submit = async (event: Event) => {
        event.preventDefault();
        setError(undefined);
        try {
            await api.put(`/queues/${segment(name)}`, {
                concurrency: optionalNumber(concurrency),
                rate_limit: optionalNumber(rate),
                rate_period: optionalNumber(period),
                max_depth: optionalNumber(depth),
            });
            onClose();
            tell(`Queue ${name} has new limits.`);
            onDone();
        } catch (problem) {
            setError(problem as ApiError);
        }
    };
    return (
        <Dialog title={queue ? `Limits of queue ${name}` : 'A new queue'} onClose={onClose} class="dialog-small">
            <form onSubmit={submit} data-testid="limits-form">
                <div class="dialog-body">
                    {!queue && <TextField label="Name" value={name} onChange={setName} required mono />}
                    <p class="quiet">What is empty is not limited.</p>
                    <div class="form-grid">
                        <TextField
                            label="Jobs at once"
                            type="number"
                            min={1}
                            value={concurrency}
                            onChange={setConcurrency}
                        />
                        <TextField
                            label="Jobs in the queue, at most"
                            type="number"
                            min={1}
                            value={depth}
                            onChange={setDepth}
                            hint="more are refused with JB001"
                        />
                        <TextField label="Starts per period" type="number" min={1} value={rate} onChange={setRate} />
                        <TextField
                            label="Period in seconds"
                            type="number"
                            min={0}
                            step="any"
                            value={period}
                            onChange={setPeriod}
                            placeholder="1"
                        />
                    </div>
                    <FormError error={error} />
                </div>
                <footer class="dialog-foot">
                    <button type="button" class="button" onClick={onClose}>
                        {queue ? 'Keep as it is' : 'Close'}
                    </button>
                    <button type="submit" class="button button-main" data-testid="limits-submit">
                        Set the limits
                    </button>
                </footer>
            </form>
        </Dialog>
    );
}

export function Queues() {
    const list = useList<Queue>('/queues', 'queues', names);
    const [adding, setAdding] = useState(false);
    const reload = list.resource.reload;
    const acts = may('queues.pause') || may('queues.set') || may('queues.delete');
    const columns: Column<Queue>[] = [
        { name: 'Queue', lead: true, cell: (queue) => <QueueName name={queue.queue_name} /> },
        {
            name: 'State',
            beside: true,
            cell: (queue) =>
                queue.paused ? (
                    <State name="paused" />
                ) : (
                    <State name={queue.running + queue.leased ? 'running' : 'idle'} />
                ),
        },
        { name: 'Ready', number: true, cell: (queue) => <Counted value={queue.ready} /> },
        { name: 'Scheduled', number: true, cell: (queue) => <Counted value={queue.scheduled} /> },
        {
            name: 'Running',
            number: true,
            cell: (queue) => (
                <span class="num">
                    {number(queue.running + queue.leased)}{' '}
                    {queue.concurrency != null && <span class="quiet">/ {number(queue.concurrency)}</span>}
                </span>
            ),
        },
        { name: 'Rate', number: true, optional: true, cell: (queue) => rateText(queue) ?? <None /> },
        {
            name: 'Max depth',
            number: true,
            optional: true,
            cell: (queue) => (queue.max_depth == null ? <None /> : number(queue.max_depth)),
        },
        { name: 'Oldest ready', cell: (queue) => <Time at={queue.oldest_ready_at} /> },
        ...(acts
            ? [
                  {
                      name: 'Actions',
                      hideName: true,
                      cell: (queue: Queue) => <QueueActions queue={queue} reload={reload} small />,
                  },
              ]
            : []),
    ];
    return (
        <>
            <PageHead title="Queues">
                {may('queues.set') && (
                    <button type="button" class="button" onClick={() => setAdding(true)}>
                        <Icon name="plus" /> New queue
                    </button>
                )}
            </PageHead>
            <Filters names={names}>
                <FilterText name="search" label="Name contains" size={24} />
            </Filters>
            <ListProblem list={list} />
            <ListHead list={list} one="queue" />
            <DataTable
                testid="queues"
                label="Queues"
                columns={columns}
                rows={list.rows}
                rowKey={(queue) => queue.queue_name}
                href={(queue) => (may('queues.get') ? href(`/queues/${segment(queue.queue_name)}`) : undefined)}
                pending={list.resource.pending}
                failed={!!list.resource.error}
                empty={
                    <Empty
                        title={list.isFiltered ? 'No queue has this in its name.' : 'There is no queue.'}
                        icon="layers"
                    >
                        <p>
                            A queue is there as soon as a job names it; limits are needed only where too many of its
                            jobs would run at once.
                        </p>
                    </Empty>
                }
            />
            {adding && <LimitsDialog onClose={() => setAdding(false)} onDone={() => void reload()} />}
        </>
    );
}

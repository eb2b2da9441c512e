// Jobs that wait or run: find them, and act on those selected or on all that the filter shows.
import { useState } from 'preact/hooks';
import { api } from '../api';
import { bytes, number, plural } from '../format';
import { jsonProblem, stringify } from '../json';
import { useList } from '../list';
import { ask, attempt } from '../notices';
import { jobFilters } from '../query';
import { href, place, setParams } from '../router';
import { chosenBody, chosenCount, chosenRest } from '../selection';
import { may, mayReadPayloads } from '../session';
import type { Job } from '../types';
import { Cut, Empty, JobLink, None, Priority, Progress, QueueName, State, TaskName, Time } from '../ui/basics';
import { Icon } from '../ui/icons';
import { FilterText, Filters, ListHead, ListProblem } from '../ui/list-view';
import { PageHead } from '../ui/shell';
import { DataTable, type Column } from '../ui/table';
import { EnqueueButton } from './enqueue';
import { RescheduleDialog } from './reschedule';

const isId = (text: string) => (/^\d{1,19}$/.test(text) ? undefined : 'An id is a number.');
const isPriority = (text: string) => (/^-?\d{1,5}$/.test(text) ? undefined : 'A priority is a whole number.');

export function payloadPreview(job: { payload: Job['payload']; payload_size?: number }) {
    if (job.payload !== null) return <Cut text={stringify(job.payload).slice(0, 300)} class="mono payload" />;
    // Large ones are left out of lists.
    return mayReadPayloads() && (job.payload_size ?? 0) > 16 ? (
        <None>large, {bytes(job.payload_size!)}</None>
    ) : (
        <None />
    );
}

const columns: Column<Job>[] = [
    { name: 'Job', lead: true, cell: (job) => <JobLink id={job.id} /> },
    { name: 'State', beside: true, cell: (job) => <State name={job.state} /> },
    { name: 'Task', cell: (job) => <TaskName name={job.task_identifier} /> },
    {
        name: 'Payload',
        wide: true,
        bare: true,
        cell: (job) =>
            job.progress != null ? (
                <Progress
                    brief
                    value={job.progress}
                    message={job.progress_message}
                    label={`Progress of job ${job.id}`}
                />
            ) : (
                payloadPreview(job)
            ),
    },
    { name: 'Queue', cell: (job) => <QueueName name={job.queue_name} /> },
    {
        name: 'Priority',
        number: true,
        optional: true,
        cell: (job) => <Priority value={job.priority} band={job.priority_band} />,
    },
    {
        name: 'Attempts',
        number: true,
        cell: (job) => (
            <span
                class={job.attempts ? 'num tone-warn' : 'num'}
                title={
                    job.attempts
                        ? `${plural(job.attempts, 'failed attempt')}; last error ${job.last_error?.sqlstate ?? ''} ${job.last_error?.message ?? ''}`
                        : 'failed attempts, and how many it has at most'
                }
            >
                {job.attempts} <span class="quiet">/ {job.max_attempts}</span>
            </span>
        ),
    },
    { name: 'Due', cell: (job) => <Time at={job.state === 'leased' ? job.lease_expires_at : job.run_at} /> },
];

const states = ['ready', 'running', 'scheduled', 'leased'];

function StateFilter() {
    const chosen = place.value.query.get('state') ?? '';
    return (
        <div class="segments" role="group" aria-label="State">
            {['', ...states].map((state) => (
                <button
                    key={state}
                    type="button"
                    class="segment"
                    aria-pressed={chosen === state}
                    onClick={() => setParams({ state: state || null })}
                >
                    {state ? <State name={state} /> : 'all'}
                </button>
            ))}
        </div>
    );
}

export function Jobs() {
    const canList = may('jobs.list');
    const list = useList<Job>(canList ? '/jobs' : null, 'jobs', jobFilters);
    const [rescheduling, setRescheduling] = useState(false);
    const { selection, filter, total } = list;
    const n = chosenCount(selection, total);
    const body = () => chosenBody(selection, filter, total);

    const cancel = async () => {
        const sure = await ask({
            title: `Cancel ${plural(n, 'job')}?`,
            text: `${plural(n, 'job')} that ${n === 1 ? 'waits is' : 'wait are'} removed; running ones are told to stop. There is no way back.`,
            detail: chosenRest(selection, total),
            action: `Cancel ${plural(n, 'job')}`,
            danger: true,
        });
        if (!sure) return;
        const done = await attempt(async () => {
            const { affected, more } = await api.post<{ affected: number; more: boolean }>('/jobs/cancel', body());
            return `${plural(affected, 'job')} cancelled.${more ? ' There are more that pass the filter.' : ''}`;
        });
        if (done) selection.clear();
        await list.resource.reload();
    };
    const runNow = async () => {
        const done = await attempt(async () => {
            const { affected, more } = await api.post<{ affected: number; more: boolean }>('/jobs/reschedule', {
                ...body(),
                run_at: new Date().toISOString(),
            });
            return `${plural(affected, 'waiting job')} made ready.${more ? ' There are more that pass the filter.' : ''}`;
        });
        if (done) selection.clear();
        await list.resource.reload();
    };

    if (!canList)
        return (
            <>
                <PageHead title="Jobs">
                    <EnqueueButton />
                </PageHead>
                <Empty title="Your role may enqueue jobs, but not see them." icon="lock">
                    <EnqueueButton />
                </Empty>
            </>
        );
    const canAct = may('jobs.cancel_many') || may('jobs.reschedule_many');
    return (
        <>
            <PageHead title="Jobs">
                <EnqueueButton start={{ task_identifier: filter.task_identifier, queue_name: filter.queue_name }} />
            </PageHead>
            <StateFilter />
            <Filters names={jobFilters}>
                <FilterText name="task_identifier" label="Task" size={18} />
                <FilterText name="queue_name" label="Queue" />
                <FilterText name="job_key" label="Key" />
                <FilterText name="min_priority" label="Priority from" size={4} check={isPriority} />
                <FilterText name="max_priority" label="to" size={4} check={isPriority} />
                <FilterText name="id" label="Id" size={10} check={isId} mono />
                <FilterText
                    name="payload"
                    label="Payload contains"
                    placeholder='{"customer": 42}'
                    size={22}
                    check={jsonProblem}
                    mono
                />
            </Filters>
            <ListProblem list={list} />
            <ListHead list={list} one="job" canSelectAll={!filter.id}>
                {may('jobs.reschedule_many') && (
                    <>
                        <button
                            type="button"
                            class="button button-small"
                            data-testid="run-many"
                            onClick={() => void runNow()}
                        >
                            <Icon name="play" /> Run now
                        </button>
                        <button
                            type="button"
                            class="button button-small"
                            data-testid="reschedule-many"
                            onClick={() => setRescheduling(true)}
                        >
                            <Icon name="clock" /> Reschedule …
                        </button>
                    </>
                )}
                {may('jobs.cancel_many') && (
                    <button
                        type="button"
                        class="button button-small button-danger"
                        data-testid="cancel-many"
                        onClick={() => void cancel()}
                    >
                        <Icon name="close" /> Cancel {number(n)} …
                    </button>
                )}
            </ListHead>
            <DataTable
                testid="jobs"
                label="Jobs"
                columns={columns}
                rows={list.rows}
                rowKey={(job) => job.id}
                rowName={(job) => `job ${job.id}`}
                href={(job) => (may('jobs.get') ? href(`/jobs/${job.id}`) : undefined)}
                selection={canAct ? selection : undefined}
                pending={list.resource.pending}
                failed={!!list.resource.error}
                empty={
                    list.isFiltered ? (
                        <Empty title="No job that waits or runs passes this filter." icon="search">
                            <p>
                                Jobs that are done are gone
                                {may('history.list') && (
                                    <>
                                        ; of tasks that keep one, they are in the <a href={href('/history')}>history</a>
                                    </>
                                )}
                                .
                                {may('dlq.list') && (
                                    <>
                                        {' '}
                                        Those that failed for good are <a href={href('/dlq')}>dead letters</a>.
                                    </>
                                )}
                            </p>
                        </Empty>
                    ) : (
                        <Empty title="No job waits or runs." icon="ok">
                            <p>Everything is done. Jobs come by backfill.enqueue(), from schedules, or from here:</p>
                            <EnqueueButton />
                        </Empty>
                    )
                }
            />
            {rescheduling && (
                <RescheduleDialog
                    title={`Reschedule ${plural(n, 'job')}`}
                    note={chosenRest(selection, total)}
                    onClose={() => setRescheduling(false)}
                    onDone={() => {
                        selection.clear();
                        void list.resource.reload();
                    }}
                    send={async (changes) => {
                        const { affected, more } = await api.post<{ affected: number; more: boolean }>(
                            '/jobs/reschedule',
                            { ...body(), ...changes },
                        );
                        return `${plural(affected, 'waiting job')} rescheduled.${more ? ' There are more that pass the filter.' : ''}`;
                    }}
                />
            )}
        </>
    );
}

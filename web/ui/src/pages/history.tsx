// Jobs that have ended, of tasks that keep a history.
import { duration, parseTime } from '../format';
import { useList } from '../list';
import { historyFilters } from '../query';
import { href } from '../router';
import { may } from '../session';
import type { Ended } from '../types';
import { Code, Cut, Empty, JobLink, None, QueueName, State, TaskName, Time } from '../ui/basics';
import { FilterSelect, FilterText, FilterTime, Filters, ListHead, ListProblem } from '../ui/list-view';
import { PageHead } from '../ui/shell';
import { DataTable, type Column } from '../ui/table';
import { timeFilter } from './dead-letters';

const outcomes = ['completed', 'dead', 'discarded', 'cancelled', 'superseded'];

function seconds(from: string | null, to: string | null): number | undefined {
    const a = parseTime(from);
    const b = parseTime(to);
    return a === undefined || b === undefined ? undefined : (b - a) / 1000;
}

const columns: Column<Ended>[] = [
    { name: 'Job', lead: true, cell: (job) => <JobLink id={job.id} /> },
    { name: 'Outcome', beside: true, cell: (job) => <State name={job.outcome} /> },
    { name: 'Task', cell: (job) => <TaskName name={job.task_identifier} /> },
    { name: 'Queue', optional: true, cell: (job) => <QueueName name={job.queue_name} /> },
    {
        name: 'Error',
        wide: true,
        bare: true,
        cell: (job) =>
            job.error ? <Cut text={[job.error.sqlstate, job.error.message].filter(Boolean).join(' ')} /> : <None />,
    },
    {
        name: 'Runs',
        number: true,
        cell: (job) => <span class={job.attempts > 1 ? 'num tone-warn' : 'num'}>{job.attempts}</span>,
    },
    { name: 'Waited', number: true, optional: true, cell: (job) => duration(seconds(job.created_at, job.started_at)) },
    { name: 'Took', number: true, cell: (job) => duration(seconds(job.started_at, job.finished_at)) },
    { name: 'Worker', optional: true, cell: (job) => job.worker ?? <None /> },
    { name: 'Finished', cell: (job) => <Time at={job.finished_at} /> },
];

export function HistoryPage() {
    const list = useList<Ended>('/history', 'history', historyFilters);
    return (
        <>
            <PageHead title="History" />
            <Filters names={historyFilters}>
                <FilterSelect name="outcome" label="Outcome" options={outcomes.map((outcome) => [outcome, outcome])} />
                <FilterText name="task_identifier" label="Task" size={18} />
                <FilterText name="queue_name" label="Queue" />
                <FilterText name="job_key" label="Key" />
                <FilterTime name="finished_after" label="Finished from" {...timeFilter} />
                <FilterTime name="finished_before" label="to" {...timeFilter} />
            </Filters>
            <ListProblem list={list} />
            <ListHead list={list} one="job" />
            <DataTable
                testid="history"
                label="History"
                columns={columns}
                rows={list.rows}
                rowKey={(job) => `${job.id} ${job.finished_at}`}
                href={(job) => (may('jobs.get') ? href(`/jobs/${job.id}`) : undefined)}
                pending={list.resource.pending}
                failed={!!list.resource.error}
                empty={
                    list.isFiltered ? (
                        <Empty title="No job of the history passes this filter." icon="search" />
                    ) : (
                        <Empty title="The history is empty." icon="past">
                            <p>A job that is done leaves nothing behind, unless its task keeps a history:</p>
                            <Code
                                text={
                                    "SELECT backfill.register_task('greet', 'greet(jsonb)', keep_history => '7 days');"
                                }
                            />
                        </Empty>
                    )
                }
            />
        </>
    );
}

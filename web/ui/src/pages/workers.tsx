// The background workers of the database, and what each of them does.
import { number, plural } from '../format';
import { paused } from '../prefs';
import { useResource } from '../resource';
import { href } from '../router';
import { may } from '../session';
import { sample } from '../stream';
import type { Worker } from '../types';
import { Empty, JobLink, None, Progress, State, TaskName, Time } from '../ui/basics';
import { Problem, Stale } from '../ui/problem';
import { PageHead } from '../ui/shell';
import { DataTable, type Column } from '../ui/table';

const columns: Column<Worker>[] = [
    {
        name: 'Worker',
        lead: true,
        cell: (worker) => (
            <>
                {worker.kind} <span class="mono">{worker.pid}</span>
            </>
        ),
    },
    { name: 'Role', cell: (worker) => worker.role ?? <None /> },
    {
        name: 'State',
        beside: true,
        cell: (worker) => <State name={worker.job_id ? 'running' : 'idle'} label={worker.state} />,
    },
    { name: 'Job', cell: (worker) => (worker.job_id ? <JobLink id={worker.job_id} /> : <None />) },
    {
        name: 'Task',
        cell: (worker) => (worker.task_identifier ? <TaskName name={worker.task_identifier} /> : <None />),
    },
    { name: 'Attempt', number: true, optional: true, cell: (worker) => worker.attempt ?? <None /> },
    {
        name: 'Progress',
        wide: true,
        cell: (worker) => (
            <Progress
                value={worker.progress}
                message={worker.progress_message}
                label={`Progress of job ${worker.job_id}`}
            />
        ),
    },
    { name: 'Since', cell: (worker) => <Time at={worker.state_since} /> },
    { name: 'Done', number: true, cell: (worker) => number(worker.jobs_done) },
    {
        name: 'Failed',
        number: true,
        cell: (worker) => (
            <span class={Number(worker.jobs_failed) ? 'tone-bad' : ''}>{number(worker.jobs_failed)}</span>
        ),
    },
    { name: 'Started', optional: true, cell: (worker) => <Time at={worker.started_at} /> },
];

export function Workers() {
    const live = sample.value?.workers;
    const asked = useResource<{ workers: Worker[] }>(live ? null : '/workers', {}, { every: 2, keep: true });
    const workers = live ?? asked.data?.workers;
    const busy = workers?.filter((worker) => worker.job_id).length ?? 0;
    const { error } = asked;
    return (
        <>
            <PageHead title="Workers" />
            {!live &&
                error &&
                error.status !== 401 &&
                (workers ? (
                    <Stale error={error} at={asked.at} retry={() => void asked.reload()} />
                ) : (
                    <Problem error={error} retry={() => void asked.reload()} />
                ))}
            <div class="list-head">
                <div class="list-count">
                    {workers &&
                        `${plural(workers.length, 'worker')}, ${number(busy)} of them busy${paused.value ? '; held still' : ''}`}
                </div>
            </div>
            {(workers || !error) && (
                <DataTable
                    testid="workers"
                    label="Workers"
                    columns={columns}
                    rows={workers}
                    rowKey={(worker) => String(worker.pid)}
                    href={(worker) => (worker.job_id && may('jobs.get') ? href(`/jobs/${worker.job_id}`) : undefined)}
                    empty={
                        <Empty title="No worker is in this database." icon="chip">
                            <p>
                                The library must be in <code>shared_preload_libraries</code>, and{' '}
                                <code>backfill.databases</code> must name this database. The{' '}
                                <a href={href('/')}>health checks</a> say more.
                            </p>
                        </Empty>
                    }
                />
            )}
        </>
    );
}

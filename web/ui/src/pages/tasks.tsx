// Tasks: those with a problem first, then all by name.
import { api } from '../api';
import { duration, plural } from '../format';
import { useList } from '../list';
import { ask, attempt } from '../notices';
import { useResource } from '../resource';
import { href, segment } from '../router';
import { may } from '../session';
import type { Task } from '../types';
import { Code, Counted, Cut, Empty, None, Panel, QueueName, State, TaskName, Time } from '../ui/basics';
import { Icon } from '../ui/icons';
import { FilterText, Filters, ListHead, ListProblem } from '../ui/list-view';
import { PageHead } from '../ui/shell';
import { DataTable, type Column } from '../ui/table';
import { enqueueOpen } from './enqueue';

const names = ['search'] as const;

function columnsFor(reload: () => void): Column<Task>[] {
    const remove = async (task: Task) => {
        const sure = await ask({
            title: `Unregister task ${task.task_identifier}?`,
            text: 'Its jobs stay, and wait until the task is registered again.',
            action: 'Unregister the task',
            danger: true,
        });
        if (sure)
            await attempt(
                async () => (
                    await api.delete(`/tasks/${segment(task.task_identifier)}`),
                    `Task ${task.task_identifier} is unregistered.`
                ),
            ).then(reload);
    };
    return [
        { name: 'Task', lead: true, cell: (task) => <TaskName name={task.task_identifier} /> },
        {
            name: 'Kind',
            beside: true,
            cell: (task) => (task.kind === 'unregistered' ? <State name="unregistered" /> : task.kind),
        },
        {
            name: 'Handler',
            wide: true,
            bare: true,
            cell: (task) =>
                task.handler ? (
                    <Cut text={task.handler} class="mono" />
                ) : (
                    <None>{task.kind === 'external' ? 'consumers claim its jobs' : '–'}</None>
                ),
        },
        { name: 'Runs as', cell: (task) => task.run_as ?? <None /> },
        { name: 'Queue', optional: true, cell: (task) => <QueueName name={task.queue_name} /> },
        { name: 'Attempts', number: true, optional: true, cell: (task) => task.max_attempts ?? <None /> },
        { name: 'Retry', optional: true, cell: (task) => task.retry_policy ?? <None>default</None> },
        {
            name: 'Limit',
            number: true,
            optional: true,
            cell: (task) => (task.timeout == null ? <None /> : duration(task.timeout)),
        },
        {
            name: 'History',
            number: true,
            optional: true,
            cell: (task) => (task.keep_history == null ? <None /> : duration(task.keep_history)),
        },
        { name: 'Jobs', number: true, cell: (task) => <Counted value={task.jobs} /> },
        {
            name: 'Dead',
            number: true,
            cell: (task) =>
                task.dead.count && may('dlq.list') ? (
                    <a class="tone-bad" href={href('/dlq', { task_identifier: task.task_identifier })}>
                        <Counted value={task.dead} />
                    </a>
                ) : (
                    <Counted value={task.dead} />
                ),
        },
        { name: 'Registered', optional: true, cell: (task) => <Time at={task.registered_at} none="never" /> },
        {
            name: 'Actions',
            hideName: true,
            cell: (task) => (
                <span class="row-actions">
                    {may('jobs.enqueue') && (
                        <button
                            type="button"
                            class="icon-button"
                            title="Enqueue a job of it"
                            aria-label={`Enqueue a job of task ${task.task_identifier}`}
                            onClick={() => (enqueueOpen.value = { task_identifier: task.task_identifier })}
                        >
                            <Icon name="plus" />
                        </button>
                    )}
                    {may('tasks.delete') && task.kind !== 'unregistered' && (
                        <button
                            type="button"
                            class="icon-button"
                            title="Unregister"
                            aria-label={`Unregister task ${task.task_identifier}`}
                            onClick={() => void remove(task)}
                        >
                            <Icon name="trash" />
                        </button>
                    )}
                </span>
            ),
        },
    ];
}

const problemBelow = (task: Task) =>
    task.problem && (
        <p class="schedule-error">
            <Icon name="warning" /> <span>{task.problem}</span>
        </p>
    );

export function Tasks() {
    const list = useList<Task>('/tasks', 'tasks', names);
    const broken = useResource<{ tasks: Task[] }>('/tasks', { problem_only: 'true', ...list.filter });
    const reload = () => {
        void list.resource.reload();
        void broken.reload();
    };
    const columns = columnsFor(reload);
    const toJobs = (task: Task) =>
        may('jobs.list') ? href('/jobs', { task_identifier: task.task_identifier }) : undefined;
    const bad = broken.data?.tasks ?? [];
    return (
        <>
            <PageHead title="Tasks" />
            <Filters names={names}>
                <FilterText name="search" label="Name contains" size={24} />
            </Filters>
            {bad.length > 0 && (
                <Panel
                    id="problems"
                    title={
                        <>
                            <Icon name="warning" class="tone-warn" /> {plural(bad.length, 'task')} with a problem
                        </>
                    }
                    class="panel-flush"
                >
                    <DataTable
                        testid="tasks-problems"
                        label="Tasks with a problem"
                        columns={columns}
                        rows={bad}
                        rowKey={(task) => task.task_identifier}
                        href={toJobs}
                        below={problemBelow}
                    />
                </Panel>
            )}
            <ListProblem list={list} />
            <ListHead list={list} one="task" />
            <DataTable
                testid="tasks"
                label="Tasks"
                columns={columns}
                rows={list.rows}
                rowKey={(task) => task.task_identifier}
                href={toJobs}
                pending={list.resource.pending}
                failed={!!list.resource.error}
                rowClass={(task) => (task.problem ? 'row-warn' : '')}
                empty={
                    list.isFiltered ? (
                        <Empty title="No task has this in its name." icon="search" />
                    ) : (
                        <Empty title="No task is registered." icon="box">
                            <p>A task ties a name to a function, which runs for every job of that task:</p>
                            <Code text={"SELECT backfill.register_task('greet', 'greet(jsonb)');"} />
                            <p>Without a function, programs of yours claim its jobs:</p>
                            <Code text={"SELECT backfill.register_task('render');"} />
                        </Empty>
                    )
                }
            />
        </>
    );
}

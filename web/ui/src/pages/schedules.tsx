// Schedules: what comes when, in the reader's zone and in the schedule's own.
import { useState } from 'preact/hooks';
import { api } from '../api';
import { dueTime, duration, parseTime, relative } from '../format';
import { now } from '../clock';
import { stringify } from '../json';
import { ask, attempt, tell } from '../notices';
import { timeZone } from '../prefs';
import { useResource } from '../resource';
import { href, navigate, segment } from '../router';
import { may } from '../session';
import type { Schedule } from '../types';
import { Code, Empty, Facts, None, Priority, QueueName, TaskName, Time } from '../ui/basics';
import { Icon } from '../ui/icons';
import { Problem, Stale } from '../ui/problem';
import { PageHead } from '../ui/shell';
import { DataTable, type Column } from '../ui/table';
import { Payload } from './job';
import { ScheduleDialog } from './schedule-form';

/** The next times, in both zones if these differ. */
export function NextRuns({ runs, zoneName }: { runs: string[]; zoneName: string }) {
    const times = runs.map(parseTime).filter((ms) => ms !== undefined);
    const mine = timeZone();
    const differs = times.some((ms) => dueTime(ms, mine) !== dueTime(ms, zoneName));
    if (!times.length) return <p class="quiet">It is never due.</p>;
    const dayOf = (text: string) => text.slice(0, -6);
    return (
        <ol class="next-runs">
            {times.map((ms) => {
                const here = dueTime(ms, mine);
                const there = dueTime(ms, zoneName);
                return (
                    <li key={ms}>
                        <span>{here}</span>
                        {differs && (
                            <span class="quiet">
                                {dayOf(here) !== dayOf(there) && there.slice(0, 3)} {there.slice(-5)} {zoneName}
                            </span>
                        )}
                        <span class="quiet">{relative(ms, now.value)}</span>
                    </li>
                );
            })}
        </ol>
    );
}

function Details({ schedule }: { schedule: Schedule }) {
    return (
        <div class="schedule-details">
            <div>
                <h2>Next runs</h2>
                <NextRuns runs={schedule.next_runs} zoneName={schedule.time_zone} />
            </div>
            <Facts
                items={[
                    [
                        'Queue',
                        schedule.queue_name == null ? (
                            <None>the task’s</None>
                        ) : (
                            <QueueName name={schedule.queue_name} />
                        ),
                    ],
                    [
                        'Priority',
                        schedule.priority == null ? <None>the task’s</None> : <Priority value={schedule.priority} />,
                    ],
                    ['Attempts', schedule.max_attempts ?? <None>the task’s</None>],
                    ['Key', schedule.job_key ? <span class="mono">{schedule.job_key}</span> : <None>none</None>],
                    [
                        'Missed runs',
                        schedule.fill
                            ? `made up for, back to ${duration(schedule.fill)}, ${schedule.catchup === 'latest' ? 'only the latest' : `at most ${schedule.max_catchup}`}`
                            : 'left out',
                    ],
                    ['Scheduled by', schedule.scheduled_by],
                ]}
            />
            <div>
                <h2>Payload</h2>
                <Payload value={schedule.payload} />
            </div>
        </div>
    );
}

export function Schedules() {
    const { data, error, at, reload } = useResource<{ schedules: Schedule[] }>('/schedules');
    const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
    const [edited, setEdited] = useState<Schedule | 'new'>();
    const toggle = (name: string) => {
        const next = new Set(open);
        if (!next.delete(name)) next.add(name);
        setOpen(next);
    };
    const run = (schedule: Schedule) =>
        attempt(async () => {
            const { id } = await api.post<{ id: string }>(`/schedules/${segment(schedule.name)}/run`);
            if (may('jobs.get')) navigate(href(`/jobs/${id}`));
            return `Job ${id} of schedule ${schedule.name} is enqueued.`;
        });
    const remove = async (schedule: Schedule) => {
        const sure = await ask({
            title: `Delete schedule ${schedule.name}?`,
            text: 'No more jobs come from it. Those that it has enqueued stay.',
            action: 'Delete the schedule',
            danger: true,
        });
        if (sure)
            await attempt(
                async () => (
                    await api.delete(`/schedules/${segment(schedule.name)}`),
                    `Schedule ${schedule.name} is deleted.`
                ),
            ).then(reload);
    };
    const columns: Column<Schedule>[] = [
        {
            name: 'Schedule',
            lead: true,
            cell: (schedule) => (
                <button
                    type="button"
                    class="expander name"
                    aria-expanded={open.has(schedule.name)}
                    onClick={() => toggle(schedule.name)}
                >
                    <Icon name={open.has(schedule.name) ? 'down' : 'right'} /> <span class="cut">{schedule.name}</span>
                </button>
            ),
        },
        { name: 'Cron', cell: (schedule) => <span class="mono cron">{schedule.cron}</span> },
        { name: 'Zone', optional: true, cell: (schedule) => schedule.time_zone },
        { name: 'Task', cell: (schedule) => <TaskName name={schedule.task_identifier} /> },
        { name: 'Next', cell: (schedule) => <Time at={schedule.next_run_at} none="never" /> },
        { name: 'Last', cell: (schedule) => <Time at={schedule.last_run_at} none="not yet" /> },
        {
            name: 'Actions',
            hideName: true,
            cell: (schedule) => (
                <span class="row-actions">
                    {may('schedules.run') && (
                        <button
                            type="button"
                            class="button button-small"
                            data-testid="schedule-run"
                            onClick={() => void run(schedule)}
                        >
                            <Icon name="play" /> Run now
                        </button>
                    )}
                    {may('schedules.set') && (
                        <button
                            type="button"
                            class="icon-button"
                            title="Edit"
                            aria-label={`Edit schedule ${schedule.name}`}
                            data-testid="schedule-edit"
                            onClick={() => setEdited(schedule)}
                        >
                            <Icon name="pen" />
                        </button>
                    )}
                    {may('schedules.delete') && (
                        <button
                            type="button"
                            class="icon-button"
                            title="Delete"
                            aria-label={`Delete schedule ${schedule.name}`}
                            data-testid="schedule-delete"
                            onClick={() => void remove(schedule)}
                        >
                            <Icon name="trash" />
                        </button>
                    )}
                </span>
            ),
        },
    ];
    const add = may('schedules.set') && (
        <button type="button" class="button button-main" data-testid="schedule-new" onClick={() => setEdited('new')}>
            <Icon name="plus" /> New schedule
        </button>
    );
    return (
        <>
            <PageHead title="Schedules">{add}</PageHead>
            {error &&
                error.status !== 401 &&
                (data ? (
                    <Stale error={error} at={at} retry={() => void reload()} />
                ) : (
                    <Problem error={error} retry={() => void reload()} />
                ))}
            {!(error && !data) && (
                <DataTable
                    testid="schedules"
                    label="Schedules"
                    columns={columns}
                    rows={data?.schedules}
                    rowKey={(schedule) => schedule.name}
                    below={(schedule) => {
                        const isOpen = open.has(schedule.name);
                        if (!isOpen && !schedule.last_error) return null;
                        return (
                            <>
                                {schedule.last_error && (
                                    <p class="schedule-error">
                                        <Icon name="warning" />{' '}
                                        <span>The last tick could not enqueue it: {schedule.last_error}</span>
                                    </p>
                                )}
                                {isOpen && <Details schedule={schedule} />}
                            </>
                        );
                    }}
                    empty={
                        <Empty title="Nothing is scheduled." icon="clock">
                            <p>A schedule enqueues a job in every minute that its cron expression names.</p>
                            {add || (
                                <Code
                                    text={
                                        "SELECT backfill.schedule('nightly', '0 3 * * *', 'greet', '{\"name\": \"night\"}', time_zone => 'Europe/Berlin');"
                                    }
                                />
                            )}
                        </Empty>
                    }
                />
            )}
            {edited && (
                <ScheduleDialog
                    schedule={edited === 'new' ? undefined : edited}
                    payload={edited === 'new' ? '{}' : stringify(edited.payload, 2)}
                    onClose={() => setEdited(undefined)}
                    onDone={(name) => {
                        tell(`Schedule ${name} is set.`);
                        void reload();
                    }}
                />
            )}
        </>
    );
}

// One job: what it is, what has happened to it, why it waits, and what can be done with it.
import { useEffect, useRef, useState } from 'preact/hooks';
import { api } from '../api';
import { duration, plural, splitWhy, words } from '../format';
import { ask, attempt } from '../notices';
import { useResource } from '../resource';
import { href } from '../router';
import { may, mayReadPayloads, session } from '../session';
import { sample } from '../stream';
import type { JobDetails, Json, TimelineEvent, Worker } from '../types';
import {
    bandName,
    CopyButton,
    Facts,
    LongTime,
    None,
    Panel,
    Priority,
    Progress,
    QueueName,
    State,
    TaskName,
    Time,
} from '../ui/basics';
import { ErrorView } from '../ui/error-view';
import { Icon, type IconName } from '../ui/icons';
import { JsonView } from '../ui/json-view';
import { Problem, Stale } from '../ui/problem';
import { PageHead } from '../ui/shell';
import { EditDialog } from './job-edit';
import { RescheduleDialog } from './reschedule';

/** A payload, or why there is none to see. */
export function Payload({ value, label = 'payload' }: { value: Json; label?: string }) {
    if (value === null && !mayReadPayloads())
        return <p class="panel-note">Role {session.value!.role} may not read payloads.</p>;
    return <JsonView value={value} label={label} />;
}

const events: Record<TimelineEvent['event'], { icon: IconName; tone: string; text: (event: TimelineEvent) => string }> =
    {
        created: { icon: 'plus', tone: 'calm', text: () => 'Enqueued' },
        started: {
            icon: 'play',
            tone: 'good',
            text: (event) => (event.attempt ? `Attempt ${event.attempt} began` : 'Began'),
        },
        attempt_failed: {
            icon: 'again',
            tone: 'warn',
            text: (event) => (event.attempt ? `Attempt ${event.attempt} failed` : 'An attempt failed'),
        },
        ended: { icon: 'check', tone: 'good', text: (event) => `Ended: ${words(event.outcome ?? 'done')}` },
        dead: {
            icon: 'cross',
            tone: 'bad',
            text: (event) =>
                event.outcome === 'discarded' ? 'Discarded by its handler' : 'Failed for good: a dead letter',
        },
        requeued: { icon: 'again', tone: 'ready', text: () => 'Requeued from the dead letters' },
        next_run: {
            icon: 'clock',
            tone: 'later',
            text: (event) => (event.attempt ? `Attempt ${event.attempt} is due` : 'Due'),
        },
    };

function Timeline({ items }: { items: TimelineEvent[] }) {
    return (
        <ol class="timeline" data-testid="timeline">
            {items.map((event, i) => {
                const kind = events[event.event] ?? events.created;
                const isGood = event.event === 'ended' && event.outcome !== 'completed';
                return (
                    <li
                        key={`${event.event} ${event.at} ${i}`}
                        class={`tone-${isGood ? 'calm' : kind.tone}`}
                        data-event={event.event}
                    >
                        <span class="timeline-mark">
                            <Icon name={isGood ? 'minus' : kind.icon} filled={event.event === 'started'} />
                        </span>
                        <div>
                            <p class="timeline-what">
                                <strong>{kind.text(event)}</strong>
                                <span class="timeline-when">
                                    {event.at ? <LongTime at={event.at} /> : <None>time not kept</None>}
                                </span>
                            </p>
                            {event.worker && <p class="quiet">by {event.worker}</p>}
                            {event.error && <ErrorView error={event.error} />}
                        </div>
                    </li>
                );
            })}
        </ol>
    );
}

function Why({ why }: { why: string }) {
    const { code, text } = splitWhy(why);
    const isRunning = code === 'running';
    return (
        <div class={`why ${isRunning ? 'why-runs' : ''}`} data-testid="why">
            <Icon name={isRunning ? 'play' : 'info'} filled={isRunning} />
            <p>
                {code && !isRunning && <strong>{words(code)}: </strong>}
                {text}
            </p>
        </div>
    );
}

interface ActionsProps {
    details: JobDetails;
    reload: () => Promise<void>;
}

function Actions({ details, reload }: ActionsProps) {
    const [open, setOpen] = useState<'' | 'edit' | 'reschedule'>('');
    const { job } = details;
    if (!job) return null;
    const waits = job.state === 'ready' || job.state === 'scheduled';
    const runNow = () =>
        attempt(async () => (await api.post(`/jobs/${job.id}/run`), `Job ${job.id} is ready now.`)).then(reload);
    const cancel = async () => {
        const sure = await ask({
            title: `Cancel job ${job.id}?`,
            text: waits
                ? 'It is removed. There is no way back.'
                : 'It is told to stop; what it has done is rolled back, unless it is a procedure that has committed. There is no way back.',
            action: 'Cancel the job',
            danger: true,
        });
        if (sure)
            await attempt(
                async () => (
                    await api.post(`/jobs/${job.id}/cancel`),
                    waits ? `Job ${job.id} is cancelled.` : `Job ${job.id} is told to stop.`
                ),
            ).then(reload);
    };
    return (
        <>
            {waits && may('jobs.run_now') && (
                <button
                    type="button"
                    class="button"
                    data-testid="run-now"
                    disabled={job.state === 'ready'}
                    title={job.state === 'ready' ? 'It is ready already' : undefined}
                    onClick={() => void runNow()}
                >
                    <Icon name="play" /> Run now
                </button>
            )}
            {waits && may('jobs.reschedule') && (
                <button type="button" class="button" data-testid="reschedule" onClick={() => setOpen('reschedule')}>
                    <Icon name="clock" /> Reschedule …
                </button>
            )}
            {waits && may('jobs.update') && (
                <button type="button" class="button" data-testid="edit" onClick={() => setOpen('edit')}>
                    <Icon name="pen" /> Edit …
                </button>
            )}
            {may('jobs.cancel') && (
                <button type="button" class="button button-danger" data-testid="cancel" onClick={() => void cancel()}>
                    <Icon name="close" /> Cancel …
                </button>
            )}
            {open === 'edit' && <EditDialog job={job} onClose={() => setOpen('')} onDone={() => void reload()} />}
            {open === 'reschedule' && (
                <RescheduleDialog
                    title={`Reschedule job ${job.id}`}
                    onClose={() => setOpen('')}
                    onDone={() => void reload()}
                    send={async (changes) => {
                        await api.post(`/jobs/${job.id}/reschedule`, changes);
                        return `Job ${job.id} is rescheduled.`;
                    }}
                />
            )}
        </>
    );
}

function JobFacts({ details }: { details: JobDetails }) {
    const { job, letter, history } = details;
    const any = job ?? history ?? letter!;
    return (
        <Facts
            items={[
                ['Task', <TaskName name={any.task_identifier} />],
                ['Queue', <QueueName name={any.queue_name} />],
                [
                    'Priority',
                    <>
                        <Priority value={any.priority} />
                        {job && <span class="quiet"> {bandName(job.priority_band)}</span>}
                    </>,
                ],
                ['Key', any.job_key ? <span class="mono wrap">{any.job_key}</span> : <None>none</None>],
                [
                    'Attempts',
                    <span class="num">
                        {job
                            ? `${job.attempts} failed`
                            : history
                              ? plural(history.attempts, 'run')
                              : `${letter!.failure_count} failed`}
                        , at most {any.max_attempts}
                    </span>,
                ],
                ...(job
                    ? ([
                          ['Retry policy', job.retry_policy],
                          ['Time limit', job.timeout == null ? <None>as the task says</None> : duration(job.timeout)],
                          ['Enqueued', <LongTime at={job.created_at} />],
                          ['Due', <LongTime at={job.run_at} />],
                          ...(job.worker ? ([['Worker', job.worker]] as [string, string][]) : []),
                          ...(job.lease_expires_at
                              ? ([['Lease until', <LongTime at={job.lease_expires_at} />]] as [
                                    string,
                                    preact.JSX.Element,
                                ][])
                              : []),
                      ] as [string, preact.ComponentChildren][])
                    : []),
                ...(history && !job
                    ? ([
                          ['Outcome', <State name={history.outcome} />],
                          ['Began', <LongTime at={history.started_at} />],
                          ['Finished', <LongTime at={history.finished_at} />],
                          ['Kept until', <LongTime at={history.keep_until} none="for ever" />],
                      ] as [string, preact.ComponentChildren][])
                    : []),
                ...(letter && may('dlq.get')
                    ? ([
                          [
                              'Dead letter',
                              <a class="mono" href={href(`/dlq/${letter.id}`)}>
                                  {letter.id}
                              </a>,
                          ],
                      ] as [string, preact.JSX.Element][])
                    : []),
            ]}
        />
    );
}

/** What the stream says of the job just now: its executor. */
function useLiveWorker(id: string, reload: () => Promise<void>): Worker | undefined {
    const worker = sample.value?.workers.find((each) => each.job_id === id);
    const pid = worker?.pid;
    const before = useRef(pid);
    useEffect(() => {
        // It began or ended: what the page shows is out of date.
        if (before.current !== pid) void reload();
        before.current = pid;
    }, [pid]);
    return worker;
}

export function JobPage({ id }: { id: string }) {
    const details = useResource<JobDetails>(`/jobs/${id}`, {}, { every: 3 });
    const { data, error, at, reload } = details;
    const worker = useLiveWorker(id, reload);
    const title = (
        <>
            Job <span class="mono">{id}</span> <CopyButton text={id} label="Copy the id" />
        </>
    );
    // A job that was there and is not any more has ended well, as far as its task keeps no history.
    const wasThere = useRef(false);
    if (data) wasThere.current = true;
    if (!data)
        return (
            <>
                <PageHead title={title} />
                {error?.status === 404 && wasThere.current ? (
                    <div class="why" data-testid="why">
                        <Icon name="ok" />
                        <p>
                            This job is done, or was removed. Its task keeps no history, so nothing more is known of it.
                        </p>
                    </div>
                ) : error && error.status !== 401 ? (
                    <Problem error={error} retry={() => void reload()} />
                ) : (
                    <div class="skeleton-page">
                        <span class="skeleton" />
                        <span class="skeleton" />
                        <span class="skeleton" />
                    </div>
                )}
            </>
        );
    const { job, letter, history } = data;
    const payload = job ? job.payload : letter?.payload;
    const headers = (job ?? letter ?? history)?.headers;
    const progress = worker?.progress ?? (job?.state === 'running' ? job.progress : null);
    const message = worker?.progress_message ?? (job?.state === 'running' ? job.progress_message : null);
    return (
        <>
            <PageHead
                title={title}
                sub={<State name={job ? job.state : letter && !history ? 'dead' : (history?.outcome ?? data.state)} />}
            >
                <Actions details={data} reload={reload} />
            </PageHead>
            {error && error.status !== 401 && <Stale error={error} at={at} retry={() => void reload()} />}
            {data.why && <Why why={data.why} />}
            {(progress != null || message) && (
                <div class="live-progress" data-testid="progress">
                    <Progress value={progress} message={message} label="Progress" />
                </div>
            )}
            <div class="detail-grid">
                <div>
                    <Panel id="facts" title="Facts">
                        <JobFacts details={data} />
                    </Panel>
                    {payload !== undefined && (
                        <Panel id="payload" title="Payload">
                            <Payload value={payload} />
                        </Panel>
                    )}
                    {history?.result != null && (
                        <Panel id="result" title="Result">
                            <JsonView value={history.result} label="result" />
                        </Panel>
                    )}
                    {headers != null && (
                        <Panel id="headers" title="Headers">
                            <JsonView value={headers} label="headers" />
                        </Panel>
                    )}
                </div>
                <Panel id="timeline" title="Timeline">
                    <Timeline items={data.timeline} />
                    {job?.state === 'running' && worker && (
                        <p class="panel-note">
                            {worker.kind} {worker.pid} runs it, begun <Time at={worker.state_since} />.
                        </p>
                    )}
                </Panel>
            </div>
        </>
    );
}

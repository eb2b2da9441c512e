// The state of one database at a glance, and as it changes.
import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { compact, count, duration, number, parseTime, plural, words } from '../format';
import { now } from '../clock';
import { chartRange } from '../prefs';
import { useResource } from '../resource';
import { href, segment } from '../router';
import { may } from '../session';
import { health as liveHealth, sample as liveSample, streamState } from '../stream';
import type { Count, Health, Overview, Sample, Task } from '../types';
import { bandName, Counted, Cut, JobLink, Panel, Progress, State, TaskName, Time } from '../ui/basics';
import { Chart, type Line } from '../ui/chart';
import { Guide } from '../ui/guide';
import { Problem, Stale } from '../ui/problem';
import { PageHead } from '../ui/shell';
import { EnqueueButton } from './enqueue';

const throughput: Line[] = [
    { name: 'enqueued', column: 2, color: 1 },
    { name: 'completed', column: 3, color: 2, area: true },
    { name: 'failed', column: 4, color: 3, dashed: true },
];
const waits: Line[] = [
    { name: 'wait p95', column: 5, color: 1, area: true },
    { name: 'run p95', column: 6, color: 4, dashed: true },
];
const depth: Line[] = [{ name: 'ready', column: 1, color: 1, area: true }];

function Tile({
    name,
    value,
    to,
    children,
    tone = '',
}: {
    name: string;
    value: ComponentChildren;
    to?: string;
    children?: ComponentChildren;
    tone?: string;
}) {
    const inside = (
        <>
            <span class="tile-name">{name}</span>
            <span class="tile-value">{value}</span>
            <span class="tile-note">{children ?? '\u00a0'}</span>
        </>
    );
    return to ? (
        <a class={`tile ${tone}`} href={to}>
            {inside}
        </a>
    ) : (
        <div class={`tile ${tone}`}>{inside}</div>
    );
}

function Tiles({ seen }: { seen: Overview }) {
    const { jobs } = seen;
    const list = (state: string) => (may('jobs.list') ? href('/jobs', { state }) : undefined);
    const oldest = parseTime(seen.oldest_ready_at);
    const { estimated } = jobs;
    // A first sample has no rates yet.
    const known = (seen as Sample).rates;
    const rates = known?.enqueued == null ? undefined : known;
    return (
        <div class="tiles" data-testid="tiles">
            <Tile name="Ready" value={count(jobs.ready)} to={list('ready')}>
                {jobs.ready.capped && estimated
                    ? `about ${number(Math.round(estimated / 1000) * 1000)} jobs in all`
                    : rates?.enqueued != null
                      ? `${compact(rates.enqueued)} enqueued / s`
                      : 'waiting for a worker'}
            </Tile>
            <Tile
                name="Running"
                value={number(jobs.running)}
                to={list('running')}
                tone={jobs.running ? 'tile-good' : ''}
            >
                {rates?.completed != null
                    ? `${compact(rates.completed)} done / s`
                    : plural(seen.workers.length, 'worker')}
            </Tile>
            <Tile name="Scheduled" value={count(jobs.scheduled)} to={list('scheduled')}>
                for later, retries too
            </Tile>
            <Tile name="Leased" value={number(jobs.leased)} to={list('leased')}>
                by consumers
            </Tile>
            <Tile
                name="Oldest ready job"
                value={oldest === undefined ? '–' : duration(Math.max(0, (now.value - oldest) / 1000))}
            >
                {oldest === undefined ? 'nothing waits' : 'since it was due'}
            </Tile>
            <Tile
                name="Dead letters"
                value={count(jobs.dead)}
                to={may('dlq.list') ? href('/dlq') : undefined}
                tone={seen.dead_today.count ? 'tile-bad' : ''}
            >
                {seen.dead_today.count ? `${count(seen.dead_today)} today` : 'none today'}
            </Tile>
        </div>
    );
}

function Charts() {
    return (
        <section class="panel charts" aria-label="Charts">
            <div class="charts-tools" role="group" aria-label="Range of the charts">
                {(['5', '15', '60'] as const).map((range) => (
                    <button
                        key={range}
                        type="button"
                        class="segment"
                        aria-pressed={chartRange.value === range}
                        onClick={() => (chartRange.value = range)}
                    >
                        {range === '60' ? '1 h' : `${range} min`}
                    </button>
                ))}
            </div>
            <Chart id="chart-throughput" title="Throughput, jobs per second" lines={throughput} />
            <Chart id="chart-wait" title="Wait and run, p95" lines={waits} format={duration} isDuration />
            <Chart id="chart-depth" title="Ready jobs" lines={depth} />
        </section>
    );
}

function Bar({ share }: { share: number }) {
    return (
        <span class="bar-track" aria-hidden="true">
            <span class="bar-fill" style={{ width: `${Math.max(share * 100, share > 0 ? 1.5 : 0)}%` }} />
        </span>
    );
}

function Depth({ seen }: { seen: Overview }) {
    const largest = (counts: Count[]) => Math.max(1, ...counts.map((each) => each.count));
    const mostInQueue = largest(seen.queues.map((queue) => queue.ready));
    const mostInBand = largest(seen.bands.map((band) => band.ready));
    return (
        <>
            <Panel
                id="depth-queues"
                title="Ready by queue"
                tools={may('queues.list') && <a href={href('/queues')}>all queues</a>}
            >
                {!seen.queues.length && <p class="panel-note">No job is in a queue.</p>}
                <ul class="bars">
                    {seen.queues.map((queue) => (
                        <li key={queue.queue_name}>
                            {may('queues.get') ? (
                                <a
                                    class="bar-name name cut"
                                    href={href(`/queues/${segment(queue.queue_name)}`)}
                                    title={queue.queue_name}
                                >
                                    {queue.queue_name}
                                </a>
                            ) : (
                                <Cut text={queue.queue_name} class="bar-name name" />
                            )}
                            <Bar share={queue.ready.count / mostInQueue} />
                            <Counted value={queue.ready} />
                            <span class="bar-note">
                                {queue.paused ? (
                                    <State name="paused" />
                                ) : (
                                    `${number(queue.running)}${queue.concurrency == null ? '' : ` of ${number(queue.concurrency)}`} running`
                                )}
                            </span>
                        </li>
                    ))}
                </ul>
            </Panel>
            <Panel id="depth-bands" title="Ready by priority">
                <ul class="bars">
                    {seen.bands.map((band) => (
                        <li key={band.band}>
                            <span class="bar-name" title={band.band}>
                                {bandName(band.band)}
                            </span>
                            <Bar share={band.ready.count / mostInBand} />
                            <Counted value={band.ready} />
                        </li>
                    ))}
                </ul>
            </Panel>
        </>
    );
}

const rank = { critical: 0, warning: 1, ok: 2 };

function HealthPanel({ found }: { found: Health | undefined }) {
    const [isOpen, setOpen] = useState(false);
    if (!found)
        return (
            <Panel id="health" title="Health">
                <span class="skeleton" />
            </Panel>
        );
    const checks = [...found.checks].sort((a, b) => rank[a.status] - rank[b.status]);
    const bad = checks.filter((check) => check.status !== 'ok');
    const shown = isOpen ? checks : bad;
    return (
        <Panel
            id="health"
            title="Health"
            tools={
                <State
                    name={found.status}
                    label={found.status === 'ok' ? 'all is well' : plural(bad.length, 'finding')}
                />
            }
        >
            {shown.length > 0 && (
                <ul class="checks">
                    {shown.map((check) => (
                        <li key={check.check} class={`check check-${check.status}`}>
                            <State name={check.status} label={words(check.check)} />
                            <div class="check-text">
                                <p>{check.detail}</p>
                                {check.hint && check.status !== 'ok' && <p class="quiet">{check.hint}</p>}
                            </div>
                        </li>
                    ))}
                </ul>
            )}
            <button
                type="button"
                class="link-button panel-more"
                aria-expanded={isOpen}
                onClick={() => setOpen(!isOpen)}
            >
                {isOpen ? 'Show findings only' : `Show all ${checks.length} checks`}
            </button>
        </Panel>
    );
}

function Running({ seen }: { seen: Overview }) {
    const busy = seen.workers.filter((worker) => worker.job_id != null);
    return (
        <Panel
            id="running"
            title="Running now"
            tools={may('workers.list') && <a href={href('/workers')}>{plural(seen.workers.length, 'worker')}</a>}
        >
            {!busy.length && <p class="panel-note">No worker runs a job at this moment.</p>}
            <ul class="running">
                {busy.slice(0, 12).map((worker) => (
                    <li key={worker.pid}>
                        <span class="running-what">
                            <JobLink id={worker.job_id!} />
                            {worker.task_identifier && <TaskName name={worker.task_identifier} />}
                        </span>
                        <span class="running-since">
                            <Time at={worker.state_since} />
                        </span>
                        <Progress
                            value={worker.progress}
                            message={worker.progress_message}
                            label={`Progress of job ${worker.job_id}`}
                        />
                    </li>
                ))}
            </ul>
        </Panel>
    );
}

function isEmpty(seen: Overview): boolean {
    const { jobs } = seen;
    return !jobs.ready.count && !jobs.scheduled.count && !jobs.running && !jobs.leased && !jobs.dead.count;
}

function Skeleton() {
    return (
        <div class="tiles" aria-hidden="true">
            {Array.from({ length: 6 }, (_, i) => (
                <div key={i} class="tile">
                    <span class="skeleton" />
                    <span class="skeleton skeleton-tall" />
                    <span class="skeleton" />
                </div>
            ))}
        </div>
    );
}

export function OverviewPage() {
    // Asked for once, beside the stream; again and again only where the stream does not come through.
    const isLive = streamState.value === 'live' || streamState.value === 'gone';
    const asked = useResource<Overview>(liveSample.value && isLive ? null : '/overview', {}, { keep: true });
    const askedHealth = useResource<Health>(
        liveHealth.value || !may('health') ? null : '/health',
        {},
        { every: 10, keep: true },
    );
    const seen = liveSample.value ?? asked.data;
    const empty = seen !== undefined && isEmpty(seen);
    const tasks = useResource<{ tasks: Task[] }>(empty && may('tasks.list') ? '/tasks' : null, { limit: '1' });
    const isNew = empty && tasks.data?.tasks.length === 0;
    return (
        <>
            <PageHead title="Overview">
                <EnqueueButton />
            </PageHead>
            {asked.error &&
                !isLive &&
                asked.error.status !== 401 &&
                (seen ? (
                    <Stale error={asked.error} at={asked.at} retry={() => void asked.reload()} />
                ) : (
                    <Problem error={asked.error} retry={() => void asked.reload()} />
                ))}
            {seen ? <Tiles seen={seen} /> : <Skeleton />}
            {isNew ? <Guide /> : <Charts />}
            {seen && (
                <div class="overview-grid">
                    <div>
                        <Depth seen={seen} />
                    </div>
                    <div>
                        <HealthPanel found={liveHealth.value ?? askedHealth.data} />
                        <Running seen={seen} />
                    </div>
                </div>
            )}
        </>
    );
}

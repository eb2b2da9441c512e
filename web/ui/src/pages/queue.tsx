// One queue: its figures, limits and newest jobs.
import { number } from '../format';
import { useResource } from '../resource';
import { href, segment } from '../router';
import { may } from '../session';
import type { Job, Queue } from '../types';
import { Counted, Empty, Facts, JobLink, LongTime, None, Panel, State, TaskName, Time } from '../ui/basics';
import { Problem, Stale } from '../ui/problem';
import { PageHead } from '../ui/shell';
import { DataTable } from '../ui/table';
import { EnqueueButton } from './enqueue';
import { payloadPreview } from './jobs';
import { QueueActions, rateText } from './queues';

export function QueuePage({ name }: { name: string }) {
    const { data: queue, error, at, reload } = useResource<Queue>(`/queues/${segment(name)}`, {}, { every: 3 });
    const jobs = useResource<{ jobs: Job[] }>(may('jobs.list') ? '/jobs' : null, { queue_name: name, limit: '10' });
    const title = (
        <>
            Queue <span class="name wrap">{name}</span>
        </>
    );
    if (!queue)
        return (
            <>
                <PageHead title={title} />
                {error && error.status !== 401 ? (
                    <Problem error={error} retry={() => void reload()} />
                ) : (
                    <div class="skeleton-page">
                        <span class="skeleton" />
                        <span class="skeleton" />
                    </div>
                )}
            </>
        );
    const list = (state: string) => href('/jobs', { queue_name: name, state });
    const busy = queue.running + queue.leased;
    return (
        <>
            <PageHead title={title} sub={queue.paused ? <State name="paused" /> : undefined}>
                <EnqueueButton start={{ queue_name: name }} />
                <QueueActions queue={queue} reload={reload} />
            </PageHead>
            {error && error.status !== 401 && <Stale error={error} at={at} retry={() => void reload()} />}
            <div class="tiles">
                <a class="tile" href={list('ready')}>
                    <span class="tile-name">Ready</span>
                    <span class="tile-value">
                        <Counted value={queue.ready} />
                    </span>
                    <span class="tile-note">
                        {queue.oldest_ready_at ? (
                            <>
                                oldest due <Time at={queue.oldest_ready_at} />
                            </>
                        ) : (
                            'nothing waits'
                        )}
                    </span>
                </a>
                <a class="tile" href={list('scheduled')}>
                    <span class="tile-name">Scheduled</span>
                    <span class="tile-value">
                        <Counted value={queue.scheduled} />
                    </span>
                    <span class="tile-note">for later, retries too</span>
                </a>
                <a class={`tile ${busy ? 'tile-good' : ''}`} href={list('running')}>
                    <span class="tile-name">Running</span>
                    <span class="tile-value num">{number(busy)}</span>
                    <span class="tile-note">
                        {queue.concurrency == null ? 'no limit' : `of ${number(queue.concurrency)} at once`}
                    </span>
                </a>
            </div>
            <div class="detail-grid detail-grid-late">
                <Panel id="limits" title="Limits">
                    <Facts
                        items={[
                            [
                                'Jobs at once',
                                queue.concurrency == null ? <None>not limited</None> : number(queue.concurrency),
                            ],
                            ['Starts', rateText(queue) ?? <None>not limited</None>],
                            [
                                'Jobs in the queue',
                                queue.max_depth == null ? (
                                    <None>not limited</None>
                                ) : (
                                    `at most ${number(queue.max_depth)}`
                                ),
                            ],
                            ['Made', queue.automatic ? 'by a job that named it' : 'by set_queue(), or built in'],
                            ['Oldest ready job', <LongTime at={queue.oldest_ready_at} none="nothing waits" />],
                        ]}
                    />
                </Panel>
                {may('jobs.list') && (
                    <Panel
                        id="queue-jobs"
                        title="Newest jobs"
                        tools={<a href={href('/jobs', { queue_name: name })}>all of them</a>}
                    >
                        <DataTable
                            label="Newest jobs"
                            columns={[
                                { name: 'Job', lead: true, cell: (job) => <JobLink id={job.id} /> },
                                { name: 'State', beside: true, cell: (job) => <State name={job.state} /> },
                                { name: 'Task', cell: (job) => <TaskName name={job.task_identifier} /> },
                                { name: 'Payload', wide: true, optional: true, cell: payloadPreview },
                                { name: 'Due', cell: (job) => <Time at={job.run_at} /> },
                            ]}
                            rows={jobs.data?.jobs}
                            rowKey={(job) => job.id}
                            href={(job) => href(`/jobs/${job.id}`)}
                            empty={<Empty title="No job waits or runs in this queue." icon="ok" />}
                        />
                    </Panel>
                )}
            </div>
        </>
    );
}

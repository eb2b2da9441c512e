// One dead letter: why its job failed, and what can be done about it.
import { useRef, useState } from 'preact/hooks';
import { api, type ApiError } from '../api';
import { jsonProblem, raw, stringify } from '../json';
import { ask, attempt, tell } from '../notices';
import { useResource } from '../resource';
import { href, navigate } from '../router';
import { may } from '../session';
import type { Letter } from '../types';
import { CopyButton, Facts, JobLink, LongTime, None, Panel, Priority, QueueName, State, TaskName } from '../ui/basics';
import { Dialog } from '../ui/dialog';
import { ErrorView } from '../ui/error-view';
import { JsonField, TextField } from '../ui/form';
import { FormError } from '../ui/form-error';
import { Icon } from '../ui/icons';
import { JsonView } from '../ui/json-view';
import { Problem, Stale } from '../ui/problem';
import { PageHead } from '../ui/shell';
import { Sqlstate } from './dead-letters';
import { Payload } from './job';

function EditDialog({
    letter,
    onClose,
    onDone,
}: {
    letter: Letter;
    onClose: () => void;
    onDone: (jobId?: string) => void;
}) {
    const [start] = useState({ payload: stringify(letter.payload, 2), notes: letter.notes ?? '' });
    const [payload, setPayload] = useState(start.payload);
    const [notes, setNotes] = useState(start.notes);
    const [error, setError] = useState<ApiError>();
    const changes = () => ({
        payload: payload === start.payload ? undefined : raw(payload),
        notes: notes === start.notes ? undefined : notes,
    });
    const send = async (action: () => Promise<string | undefined>) => {
        setError(undefined);
        try {
            const jobId = await action();
            onClose();
            tell(jobId ? `Job ${jobId} is requeued.` : `Dead letter ${letter.id} is changed.`);
            onDone(jobId);
        } catch (problem) {
            setError(problem as ApiError);
        }
    };
    const save = () => send(async () => void (await api.patch(`/dlq/${letter.id}`, changes())));
    const requeue = () =>
        send(async () => (await api.post<{ job_id: string }>(`/dlq/${letter.id}/requeue`, changes())).job_id);
    const isWrong = !!jsonProblem(payload);
    return (
        <Dialog title={`Edit dead letter ${letter.id}`} onClose={onClose} class="dialog-wide">
            <form
                data-testid="letter-form"
                onSubmit={(event) => {
                    event.preventDefault();
                    void (may('dlq.requeue') ? requeue() : save());
                }}
            >
                <div class="dialog-body">
                    <JsonField label="Payload" value={payload} onChange={setPayload} rows={14} />
                    <TextField label="Notes" value={notes} onChange={setNotes} />
                    <FormError error={error} />
                </div>
                <footer class="dialog-foot">
                    <button type="button" class="button" onClick={onClose}>
                        Keep as it is
                    </button>
                    {may('dlq.update') && (
                        <button
                            type="button"
                            class="button"
                            disabled={isWrong || (payload === start.payload && notes === start.notes)}
                            data-testid="letter-save"
                            onClick={() => void save()}
                        >
                            Save
                        </button>
                    )}
                    {may('dlq.requeue') && (
                        <button
                            type="submit"
                            class="button button-main"
                            disabled={isWrong || letter.waiting}
                            data-testid="letter-requeue"
                        >
                            <Icon name="again" /> Requeue with this payload
                        </button>
                    )}
                </footer>
            </form>
        </Dialog>
    );
}

export function LetterPage({ id }: { id: string }) {
    const { data: letter, error, at, reload } = useResource<Letter>(`/dlq/${id}`);
    const [editing, setEditing] = useState(false);
    // The letter of a requeued job goes when the job has succeeded.
    const requeued = useRef<string | undefined>(undefined);
    if (letter?.waiting) requeued.current = letter.original_job_id;
    const title = (
        <>
            Dead letter <span class="mono">{id}</span> <CopyButton text={id} label="Copy the id" />
        </>
    );
    if (!letter)
        return (
            <>
                <PageHead title={title} />
                {error?.status === 404 && requeued.current ? (
                    <div class="why" data-testid="why">
                        <Icon name="ok" />
                        <p>
                            Job <JobLink id={requeued.current} /> has succeeded, or was removed, and the letter is gone.
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
    const requeue = () =>
        attempt(async () => {
            requeued.current = (await api.post<{ job_id: string }>(`/dlq/${id}/requeue`, {})).job_id;
            return `Job ${requeued.current} is requeued.`;
        }).then(reload);
    const remove = async () => {
        const sure = await ask({
            title: `Delete dead letter ${id}?`,
            text: 'Its payload and errors are gone for good.',
            action: 'Delete the letter',
            danger: true,
        });
        if (sure && (await attempt(async () => (await api.delete(`/dlq/${id}`), `Dead letter ${id} is deleted.`))))
            navigate(href('/dlq'), { replace: true });
    };
    return (
        <>
            <PageHead
                title={title}
                sub={letter.waiting ? <State name="waiting" label="requeued" /> : <State name="dead" />}
            >
                {may('dlq.requeue') && (
                    <button
                        type="button"
                        class="button button-main"
                        data-testid="requeue"
                        disabled={letter.waiting}
                        title={letter.waiting ? 'Its job waits or runs already' : undefined}
                        onClick={() => void requeue()}
                    >
                        <Icon name="again" /> Requeue
                    </button>
                )}
                {(may('dlq.update') || may('dlq.requeue')) && (
                    <button type="button" class="button" data-testid="edit" onClick={() => setEditing(true)}>
                        <Icon name="pen" /> Edit …
                    </button>
                )}
                {may('dlq.delete') && (
                    <button
                        type="button"
                        class="button button-danger"
                        data-testid="delete"
                        onClick={() => void remove()}
                    >
                        <Icon name="trash" /> Delete …
                    </button>
                )}
            </PageHead>
            {error && error.status !== 401 && <Stale error={error} at={at} retry={() => void reload()} />}
            {letter.waiting && (
                <div class="why why-runs" data-testid="why">
                    <Icon name="again" />
                    <p>
                        Requeued: job <JobLink id={letter.original_job_id} /> waits or runs. The letter goes when the
                        job succeeds.
                    </p>
                </div>
            )}
            <div class="detail-grid">
                <div>
                    <Panel id="error" title="Last error">
                        {letter.last_error ? (
                            <ErrorView error={letter.last_error} />
                        ) : letter.failure_reason ? null : (
                            <p class="panel-note">Hidden, or there is none.</p>
                        )}
                        {letter.failure_reason && letter.failure_reason !== letter.last_error?.message && (
                            <p class="panel-note wrap">{letter.failure_reason}</p>
                        )}
                    </Panel>
                    <Panel id="payload" title="Payload">
                        <Payload value={letter.payload} />
                    </Panel>
                    {letter.headers != null && (
                        <Panel id="headers" title="Headers">
                            <JsonView value={letter.headers} label="headers" />
                        </Panel>
                    )}
                </div>
                <Panel id="facts" title="Facts">
                    <Facts
                        items={[
                            ['Task', <TaskName name={letter.task_identifier} />],
                            ['SQLSTATE', <Sqlstate code={letter.last_error?.sqlstate} />],
                            ['Job', <JobLink id={letter.original_job_id} />],
                            ['Queue', <QueueName name={letter.queue_name} />],
                            ['Priority', <Priority value={letter.priority} />],
                            [
                                'Key',
                                letter.job_key ? <span class="mono wrap">{letter.job_key}</span> : <None>none</None>,
                            ],
                            [
                                'Attempts',
                                <span class="num">
                                    {letter.failure_count} failed, at most {letter.max_attempts}
                                </span>,
                            ],
                            ['Failed', <LongTime at={letter.failed_at} />],
                            ['Enqueued', <LongTime at={letter.original_created_at} />],
                            ['Last due', <LongTime at={letter.original_run_at} />],
                            [
                                'Requeued',
                                letter.requeued_count ? (
                                    <>
                                        {letter.requeued_count} ×, last <LongTime at={letter.last_requeued_at} />
                                    </>
                                ) : (
                                    <None>never</None>
                                ),
                            ],
                            ['Notes', letter.notes ? <span class="wrap">{letter.notes}</span> : <None>none</None>],
                        ]}
                    />
                </Panel>
            </div>
            {editing && (
                <EditDialog
                    letter={letter}
                    onClose={() => setEditing(false)}
                    onDone={(jobId) => {
                        requeued.current = jobId ?? requeued.current;
                        void reload();
                    }}
                />
            )}
        </>
    );
}

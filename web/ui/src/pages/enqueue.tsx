// The form that enqueues a job, opened from many places.
import { useState } from 'preact/hooks';
import { signal } from '@preact/signals';
import { api, ApiError } from '../api';
import { fromLocalInput } from '../format';
import { jsonProblem, raw } from '../json';
import { tell } from '../notices';
import { zone } from '../prefs';
import { useResource } from '../resource';
import { href, navigate } from '../router';
import { may } from '../session';
import type { Task } from '../types';
import { Dialog } from '../ui/dialog';
import { JsonField, SelectField, TextField } from '../ui/form';
import { Icon } from '../ui/icons';
import { FormError } from '../ui/form-error';

export interface EnqueueStart {
    task_identifier?: string;
    payload?: string;
    queue_name?: string;
}

/** The form is open, with these values to begin with. */
export const enqueueOpen = signal<EnqueueStart | undefined>(undefined);

export function EnqueueButton({ start = {} }: { start?: EnqueueStart }) {
    if (!may('jobs.enqueue')) return null;
    return (
        <button
            type="button"
            class="button button-main"
            data-testid="enqueue"
            onClick={() => (enqueueOpen.value = start)}
        >
            <Icon name="plus" /> Enqueue a job
        </button>
    );
}

export const priorities: [string, string][] = [
    ['', 'as the task says'],
    ['-20', '−20 emergency'],
    ['-10', '−10 fast high'],
    ['-5', '−5 fast'],
    ['0', '0 bulk'],
    ['5', '5 bulk low'],
    ['10', '10 bulk lowest'],
];

export const keyModes: [string, string][] = [
    ['replace', 'replace the waiting job'],
    ['preserve_run_at', 'replace it, but keep its time'],
    ['unsafe_dedupe', 'leave the waiting job as it is'],
];

export const optional = (text: string) => text.trim() || undefined;
export const optionalNumber = (text: string) => (text.trim() ? Number(text) : undefined);

/** Names of tasks that a field completes. */
export function useTaskNames(): string[] {
    const tasks = useResource<{ tasks: Task[] }>(may('tasks.list') ? '/tasks' : null, { limit: '500' }, { every: 0 });
    return tasks.data?.tasks.map((task) => task.task_identifier) ?? [];
}

export function usePolicies(): [string, string][] {
    const policies = useResource<{ retry_policies: { policy_name: string }[] }>(
        may('retry_policies.list') ? '/retry-policies' : null,
        {},
        { every: 0 },
    );
    return [
        ['', 'as the task says'],
        ...(policies.data?.retry_policies ?? []).map(({ policy_name: name }): [string, string] => [name, name]),
    ];
}

export function EnqueueDialog() {
    const start = enqueueOpen.value;
    return start ? <Form start={start} /> : null;
}

function Form({ start }: { start: EnqueueStart }) {
    const [fields, setFields] = useState({
        task: start.task_identifier ?? '',
        payload: start.payload ?? '{}',
        queue: start.queue_name ?? '',
        priority: '',
        runAt: '',
        attempts: '',
        key: '',
        keyMode: 'replace',
        policy: '',
        timeout: '',
        headers: '',
    });
    const [error, setError] = useState<ApiError>();
    const [busy, setBusy] = useState(false);
    const tasks = useTaskNames();
    const policies = usePolicies();
    const set = (name: keyof typeof fields) => (value: string) => setFields((old) => ({ ...old, [name]: value }));
    const close = () => (enqueueOpen.value = undefined);
    const isUnknown = tasks.length > 0 && fields.task !== '' && !tasks.includes(fields.task);

    const submit = async (event: Event) => {
        event.preventDefault();
        setBusy(true);
        setError(undefined);
        try {
            const { id } = await api.post<{ id: string }>('/jobs', {
                task_identifier: fields.task,
                payload: raw(fields.payload),
                queue_name: optional(fields.queue),
                priority: optionalNumber(fields.priority),
                run_at: fromLocalInput(fields.runAt, zone.value === 'utc'),
                max_attempts: optionalNumber(fields.attempts),
                job_key: optional(fields.key),
                job_key_mode: fields.key ? fields.keyMode : undefined,
                retry_policy: optional(fields.policy),
                timeout: optionalNumber(fields.timeout),
                headers: fields.headers.trim() ? raw(fields.headers) : undefined,
            });
            close();
            tell(`Job ${id} is enqueued.`);
            if (may('jobs.get')) navigate(href(`/jobs/${id}`));
        } catch (problem) {
            setError(problem as ApiError);
        }
        setBusy(false);
    };

    return (
        <Dialog title="Enqueue a job" onClose={close} class="dialog-wide">
            <form onSubmit={submit} data-testid="enqueue-form">
                <div class="dialog-body">
                    <TextField
                        label="Task"
                        value={fields.task}
                        onChange={set('task')}
                        options={tasks}
                        required
                        autoFocus
                        mono
                        hint={isUnknown ? 'No task of this name is registered: the job waits until it is.' : undefined}
                    />
                    <JsonField label="Payload" value={fields.payload} onChange={set('payload')} />
                    <details class="more" open={!!start.queue_name}>
                        <summary>Queue, priority, time and more</summary>
                        <div class="form-grid">
                            <TextField
                                label="Queue"
                                value={fields.queue}
                                onChange={set('queue')}
                                placeholder="as the task says"
                            />
                            <SelectField
                                label="Priority"
                                value={fields.priority}
                                onChange={set('priority')}
                                options={priorities}
                            />
                            <TextField
                                label={`Run at (${zone.value === 'utc' ? 'UTC' : 'local time'})`}
                                type="datetime-local"
                                value={fields.runAt}
                                onChange={set('runAt')}
                                hint="empty: at once"
                            />
                            <TextField
                                label="Attempts, at most"
                                type="number"
                                min={1}
                                max={32767}
                                value={fields.attempts}
                                onChange={set('attempts')}
                                placeholder="as the task says"
                            />
                            <SelectField
                                label="Retry policy"
                                value={fields.policy}
                                onChange={set('policy')}
                                options={policies}
                            />
                            <TextField
                                label="Time limit in seconds"
                                type="number"
                                min={0}
                                step="any"
                                value={fields.timeout}
                                onChange={set('timeout')}
                                placeholder="as the task says"
                            />
                            <TextField
                                label="Key"
                                value={fields.key}
                                onChange={set('key')}
                                hint="one waiting job per key"
                                mono
                            />
                            <SelectField
                                label="If a job with the key waits"
                                value={fields.keyMode}
                                onChange={set('keyMode')}
                                options={keyModes}
                            />
                        </div>
                        <TextField
                            label="Headers"
                            value={fields.headers}
                            onChange={set('headers')}
                            mono
                            placeholder='{"traceparent": "…"}'
                            problem={fields.headers.trim() ? jsonProblem(fields.headers) : undefined}
                        />
                    </details>
                    <FormError error={error} />
                </div>
                <footer class="dialog-foot">
                    <button type="button" class="button" onClick={close}>
                        Close
                    </button>
                    <button
                        type="submit"
                        class="button button-main"
                        disabled={busy || !!jsonProblem(fields.payload)}
                        data-testid="enqueue-submit"
                    >
                        Enqueue
                    </button>
                </footer>
            </form>
        </Dialog>
    );
}

// The form of a schedule, with the times at which it would be due as it is being typed.
import { useEffect, useState } from 'preact/hooks';
import { api, type ApiError } from '../api';
import { jsonProblem, raw } from '../json';
import { segment } from '../router';
import { may } from '../session';
import type { Schedule } from '../types';
import { Dialog } from '../ui/dialog';
import { JsonField, SelectField, TextField } from '../ui/form';
import { FormError } from '../ui/form-error';
import { capital } from '../ui/problem';
import { keyModes, optional, optionalNumber, priorities, usePolicies, useTaskNames } from './enqueue';
import { NextRuns } from './schedules';

const zones: string[] = (() => {
    try {
        return ['UTC', ...Intl.supportedValuesOf('timeZone').filter((name) => name !== 'UTC')];
    } catch {
        return ['UTC'];
    }
})();

function Preview({ cron, zoneName }: { cron: string; zoneName: string }) {
    const [next, setNext] = useState<string[]>();
    const [problem, setProblem] = useState('');
    useEffect(() => {
        if (!cron.trim() || !may('cron.preview')) return;
        const abort = new AbortController();
        const timer = setTimeout(async () => {
            try {
                const found = await api.get<{ next: string[] }>(
                    '/cron/next',
                    { cron, time_zone: zoneName || undefined, count: '5' },
                    abort.signal,
                );
                setNext(found.next);
                setProblem('');
            } catch (error) {
                if (!abort.signal.aborted)
                    setProblem(
                        [capital((error as ApiError).message), (error as ApiError).detail, (error as ApiError).hint]
                            .filter(Boolean)
                            .join(' '),
                    );
            }
        }, 250);
        return () => {
            clearTimeout(timer);
            abort.abort();
        };
    }, [cron, zoneName]);
    return (
        <div class="cron-preview" aria-live="polite" data-testid="cron-preview">
            {problem ? (
                <p class="field-problem">{problem}</p>
            ) : next && cron.trim() ? (
                <NextRuns runs={next} zoneName={zoneName || 'UTC'} />
            ) : (
                <p class="quiet">The next five runs are shown here.</p>
            )}
        </div>
    );
}

interface Props {
    schedule?: Schedule;
    payload: string;
    onClose: () => void;
    onDone: (name: string) => void;
}

export function ScheduleDialog({ schedule, payload, onClose, onDone }: Props) {
    const text = (value: string | number | null | undefined) => (value == null ? '' : String(value));
    const [fields, setFields] = useState({
        name: schedule?.name ?? '',
        cron: schedule?.cron ?? '',
        zone: schedule?.time_zone ?? Intl.DateTimeFormat().resolvedOptions().timeZone,
        task: schedule?.task_identifier ?? '',
        payload,
        queue: text(schedule?.queue_name),
        priority: text(schedule?.priority),
        attempts: text(schedule?.max_attempts),
        key: text(schedule?.job_key),
        keyMode: schedule?.job_key_mode ?? 'replace',
        policy: text(schedule?.retry_policy),
        timeout: text(schedule?.timeout),
        fill: schedule?.fill ? String(schedule.fill) : '',
        most: text(schedule?.max_catchup),
        catchup: schedule?.catchup ?? 'all',
    });
    const [error, setError] = useState<ApiError>();
    const tasks = useTaskNames();
    const policies = usePolicies();
    const set = (name: keyof typeof fields) => (value: string) => setFields((old) => ({ ...old, [name]: value }));
    const submit = async (event: Event) => {
        event.preventDefault();
        setError(undefined);
        try {
            await api.put(`/schedules/${segment(fields.name)}`, {
                cron: fields.cron,
                task_identifier: fields.task,
                payload: raw(fields.payload),
                // An empty queue, as from a crontab line, is another one than the task's.
                queue_name: schedule?.queue_name === '' && fields.queue === '' ? '' : optional(fields.queue),
                priority: optionalNumber(fields.priority),
                max_attempts: optionalNumber(fields.attempts),
                job_key: optional(fields.key),
                job_key_mode: fields.key ? fields.keyMode : undefined,
                retry_policy: optional(fields.policy),
                timeout: optionalNumber(fields.timeout),
                time_zone: optional(fields.zone),
                fill: optionalNumber(fields.fill),
                max_catchup: optionalNumber(fields.most),
                catchup: fields.catchup,
            });
            onClose();
            onDone(fields.name);
        } catch (problem) {
            setError(problem as ApiError);
        }
    };
    return (
        <Dialog title={schedule ? `Schedule ${schedule.name}` : 'A new schedule'} onClose={onClose} class="dialog-wide">
            <form onSubmit={submit} data-testid="schedule-form">
                <div class="dialog-body">
                    <div class="form-grid form-grid-two">
                        {!schedule && (
                            <TextField
                                label="Name"
                                value={fields.name}
                                onChange={set('name')}
                                required
                                autoFocus
                                mono
                            />
                        )}
                        <TextField
                            label="Task"
                            value={fields.task}
                            onChange={set('task')}
                            options={tasks}
                            required
                            mono
                        />
                        <TextField
                            label="Cron expression"
                            value={fields.cron}
                            onChange={set('cron')}
                            required
                            mono
                            placeholder="0 3 * * 1-5"
                            hint="minute, hour, day, month, day of the week"
                        />
                        <TextField
                            label="Time zone"
                            value={fields.zone}
                            onChange={set('zone')}
                            options={zones}
                            placeholder="UTC"
                        />
                    </div>
                    <Preview cron={fields.cron} zoneName={fields.zone} />
                    <JsonField label="Payload" value={fields.payload} onChange={set('payload')} rows={5} />
                    <details class="more">
                        <summary>Queue, priority, missed runs and more</summary>
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
                                options={
                                    priorities.some(([value]) => value === fields.priority)
                                        ? priorities
                                        : [...priorities, [fields.priority, fields.priority]]
                                }
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
                                options={
                                    policies.some(([value]) => value === fields.policy)
                                        ? policies
                                        : [...policies, [fields.policy, fields.policy]]
                                }
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
                            <TextField
                                label="Make up for missed runs of, in seconds"
                                type="number"
                                min={0}
                                step="any"
                                value={fields.fill}
                                onChange={set('fill')}
                                placeholder="0: leave them out"
                            />
                            <TextField
                                label="Made up for at once, at most"
                                type="number"
                                min={1}
                                value={fields.most}
                                onChange={set('most')}
                                placeholder="1000"
                            />
                            <SelectField
                                label="Of the missed runs"
                                value={fields.catchup}
                                onChange={set('catchup')}
                                options={[
                                    ['all', 'all of them'],
                                    ['latest', 'only the latest'],
                                ]}
                            />
                        </div>
                    </details>
                    <FormError error={error} />
                </div>
                <footer class="dialog-foot">
                    <button type="button" class="button" onClick={onClose}>
                        {schedule ? 'Keep as it is' : 'Close'}
                    </button>
                    <button
                        type="submit"
                        class="button button-main"
                        disabled={!!jsonProblem(fields.payload)}
                        data-testid="schedule-submit"
                    >
                        {schedule ? 'Save' : 'Schedule'}
                    </button>
                </footer>
            </form>
        </Dialog>
    );
}

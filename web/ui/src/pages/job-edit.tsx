// The form that changes a waiting job.
import { useState } from 'preact/hooks';
import { api, type ApiError } from '../api';
import { jsonProblem, raw, stringify } from '../json';
import { tell } from '../notices';
import type { Job } from '../types';
import { Dialog } from '../ui/dialog';
import { JsonField, TextField } from '../ui/form';
import { FormError } from '../ui/form-error';
import { optionalNumber } from './enqueue';

export function EditDialog({ job, onClose, onDone }: { job: Job; onClose: () => void; onDone: () => void }) {
    // The values that were there when the form was opened: refreshes in the meantime do not change them.
    const [start] = useState({
        payload: stringify(job.payload, 2),
        queue: job.queue_name ?? '',
        priority: String(job.priority),
        max: String(job.max_attempts),
        timeout: job.timeout == null ? '' : String(job.timeout),
    });
    const [fields, setFields] = useState(start);
    const [error, setError] = useState<ApiError>();
    const set = (name: keyof typeof fields) => (value: string) => setFields((old) => ({ ...old, [name]: value }));
    const changed = (name: keyof typeof fields) => fields[name] !== start[name];
    const cleared = (name: keyof typeof fields) =>
        start[name] !== '' && fields[name].trim() === '' ? 'It can be changed, but not taken away.' : undefined;
    const isCleared = Object.keys(fields).some((name) => cleared(name as keyof typeof fields));
    const isChanged = (Object.keys(fields) as (keyof typeof fields)[]).some(changed);
    const submit = async (event: Event) => {
        event.preventDefault();
        setError(undefined);
        try {
            await api.patch(`/jobs/${job.id}`, {
                payload: changed('payload') ? raw(fields.payload) : undefined,
                queue_name: changed('queue') ? fields.queue : undefined,
                priority: changed('priority') ? optionalNumber(fields.priority) : undefined,
                max_attempts: changed('max') ? optionalNumber(fields.max) : undefined,
                timeout: changed('timeout') ? optionalNumber(fields.timeout) : undefined,
            });
            onClose();
            tell(`Job ${job.id} is changed.`);
            onDone();
        } catch (problem) {
            setError(problem as ApiError);
        }
    };
    return (
        <Dialog title={`Edit job ${job.id}`} onClose={onClose} class="dialog-wide">
            <form onSubmit={submit} data-testid="edit-form">
                <div class="dialog-body">
                    <JsonField label="Payload" value={fields.payload} onChange={set('payload')} rows={12} />
                    <div class="form-grid">
                        <TextField
                            label="Queue"
                            value={fields.queue}
                            onChange={set('queue')}
                            placeholder="none"
                            problem={cleared('queue')}
                        />
                        <TextField
                            label="Priority"
                            type="number"
                            min={-32768}
                            max={32767}
                            value={fields.priority}
                            onChange={set('priority')}
                            problem={cleared('priority')}
                            hint="smaller runs first"
                        />
                        <TextField
                            label="Attempts, at most"
                            type="number"
                            min={1}
                            max={32767}
                            value={fields.max}
                            onChange={set('max')}
                            problem={cleared('max')}
                        />
                        <TextField
                            label="Time limit in seconds"
                            type="number"
                            min={0}
                            step="any"
                            value={fields.timeout}
                            onChange={set('timeout')}
                            placeholder="as the task says"
                            problem={cleared('timeout')}
                        />
                    </div>
                    <FormError error={error} />
                </div>
                <footer class="dialog-foot">
                    <button type="button" class="button" onClick={onClose}>
                        Keep as it is
                    </button>
                    <button
                        type="submit"
                        class="button button-main"
                        disabled={!isChanged || isCleared || !!jsonProblem(fields.payload)}
                        data-testid="edit-submit"
                    >
                        Save
                    </button>
                </footer>
            </form>
        </Dialog>
    );
}

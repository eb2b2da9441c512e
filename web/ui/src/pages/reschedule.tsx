// When and how waiting jobs run: for one job, or for many.
import { useState } from 'preact/hooks';
import type { ApiError } from '../api';
import { fromLocalInput } from '../format';
import { tell } from '../notices';
import { zone } from '../prefs';
import { Dialog } from '../ui/dialog';
import { TextField } from '../ui/form';
import { FormError } from '../ui/form-error';
import { optionalNumber } from './enqueue';

interface Props {
    title: string;
    note?: string;
    onClose: () => void;
    onDone: () => void;
    /** Returns what to tell. */
    send: (changes: Record<string, unknown>) => Promise<string>;
}

const presets: [string, number][] = [
    ['now', 0],
    ['in 5 min', 300],
    ['in 1 h', 3600],
    ['in 1 day', 86400],
];

export function RescheduleDialog({ title, note, onClose, onDone, send }: Props) {
    const [runAt, setRunAt] = useState('');
    const [priority, setPriority] = useState('');
    const [attempts, setAttempts] = useState('');
    const [maxAttempts, setMaxAttempts] = useState('');
    const [delay, setDelay] = useState<number | undefined>(undefined);
    const [error, setError] = useState<ApiError>();
    const at = delay === undefined ? fromLocalInput(runAt, zone.value === 'utc') : 'delay';
    const isEmpty = at === undefined && !priority && !attempts && !maxAttempts;
    const submit = async (event: Event) => {
        event.preventDefault();
        setError(undefined);
        try {
            const text = await send({
                run_at: delay === undefined ? at : new Date(Date.now() + delay * 1000).toISOString(),
                priority: optionalNumber(priority),
                attempts: optionalNumber(attempts),
                max_attempts: optionalNumber(maxAttempts),
            });
            onClose();
            tell(text);
            onDone();
        } catch (problem) {
            setError(problem as ApiError);
        }
    };
    return (
        <Dialog title={title} onClose={onClose} class="dialog-small">
            <form onSubmit={submit} data-testid="reschedule-form">
                <div class="dialog-body">
                    <p class="quiet">What is left empty stays as it is. Jobs that run or are leased are left alone.</p>
                    {note && <p>{note}</p>}
                    <div class="presets" role="group" aria-label="Run">
                        {presets.map(([name, seconds]) => (
                            <button
                                key={name}
                                type="button"
                                class="segment"
                                aria-pressed={delay === seconds}
                                onClick={() => (setDelay(delay === seconds ? undefined : seconds), setRunAt(''))}
                            >
                                {name}
                            </button>
                        ))}
                    </div>
                    <TextField
                        label={`Run at (${zone.value === 'utc' ? 'UTC' : 'local time'})`}
                        type="datetime-local"
                        value={runAt}
                        onChange={(value) => {
                            setRunAt(value);
                            setDelay(undefined);
                        }}
                    />
                    <div class="form-grid">
                        <TextField
                            label="Priority"
                            type="number"
                            min={-32768}
                            max={32767}
                            value={priority}
                            onChange={setPriority}
                            hint="smaller runs first"
                        />
                        <TextField
                            label="Failed attempts so far"
                            type="number"
                            min={0}
                            max={32767}
                            value={attempts}
                            onChange={setAttempts}
                        />
                        <TextField
                            label="Attempts, at most"
                            type="number"
                            min={1}
                            max={32767}
                            value={maxAttempts}
                            onChange={setMaxAttempts}
                        />
                    </div>
                    <FormError error={error} />
                </div>
                <footer class="dialog-foot">
                    <button type="button" class="button" onClick={onClose}>
                        Keep as it is
                    </button>
                    <button type="submit" class="button button-main" disabled={isEmpty}>
                        Reschedule
                    </button>
                </footer>
            </form>
        </Dialog>
    );
}

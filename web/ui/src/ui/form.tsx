// Fields of forms, with their labels and what is wrong with them.
import type { ComponentChildren } from 'preact';
import { useId } from 'preact/hooks';
import { jsonProblem, parseJson, stringify } from '../json';

interface Common {
    label: string;
    hint?: ComponentChildren;
    problem?: string;
}

export function Field({ label, hint, problem, id, children }: Common & { id: string; children: ComponentChildren }) {
    return (
        <div class={`form-field ${problem ? 'is-wrong' : ''}`}>
            <label for={id}>{label}</label>
            {children}
            {problem ? (
                <p class="field-problem" id={`${id}-note`}>
                    {problem}
                </p>
            ) : (
                hint && (
                    <p class="field-hint" id={`${id}-note`}>
                        {hint}
                    </p>
                )
            )}
        </div>
    );
}

interface TextProps extends Common {
    value: string;
    onChange: (value: string) => void;
    type?: 'text' | 'password' | 'number' | 'datetime-local';
    required?: boolean;
    placeholder?: string;
    mono?: boolean;
    options?: string[];
    min?: number;
    max?: number;
    step?: number | 'any';
    autoFocus?: boolean;
    autoComplete?: string;
    name?: string;
}

export function TextField(props: TextProps) {
    const id = useId();
    return (
        <Field id={id} label={props.label} hint={props.hint} problem={props.problem}>
            <input
                id={id}
                name={props.name}
                type={(props.type ?? 'text') as 'text'}
                class={props.mono ? 'mono' : ''}
                value={props.value}
                required={props.required}
                placeholder={props.placeholder}
                min={props.min}
                max={props.max}
                step={props.step ?? (props.type === 'datetime-local' ? 1 : undefined)}
                autofocus={props.autoFocus}
                autocomplete={(props.autoComplete ?? 'off') as 'off'}
                spellcheck={false}
                list={props.options ? `${id}-options` : undefined}
                aria-describedby={props.problem || props.hint ? `${id}-note` : undefined}
                aria-invalid={props.problem ? true : undefined}
                onInput={(event) => props.onChange(event.currentTarget.value)}
            />
            {props.options && (
                <datalist id={`${id}-options`}>
                    {props.options.map((option) => (
                        <option key={option} value={option} />
                    ))}
                </datalist>
            )}
        </Field>
    );
}

export function SelectField({
    label,
    hint,
    problem,
    value,
    onChange,
    options,
}: Common & { value: string; onChange: (value: string) => void; options: [string, string][] }) {
    const id = useId();
    return (
        <Field id={id} label={label} hint={hint} problem={problem}>
            <select
                id={id}
                value={value}
                aria-describedby={problem || hint ? `${id}-note` : undefined}
                onChange={(event) => onChange(event.currentTarget.value)}
            >
                {options.map(([option, text]) => (
                    <option key={option} value={option}>
                        {text}
                    </option>
                ))}
            </select>
        </Field>
    );
}

export function JsonField({
    label,
    hint,
    value,
    onChange,
    rows = 8,
}: Common & { value: string; onChange: (value: string) => void; rows?: number }) {
    const id = useId();
    const problem = jsonProblem(value);
    return (
        <Field id={id} label={label} hint={hint} problem={problem}>
            <textarea
                id={id}
                class="mono"
                rows={rows}
                value={value}
                spellcheck={false}
                aria-describedby={`${id}-note`}
                aria-invalid={problem ? true : undefined}
                onInput={(event) => onChange(event.currentTarget.value)}
            />
            <button
                type="button"
                class="link-button field-tool"
                disabled={!!problem}
                onClick={() => onChange(stringify(parseJson(value), 2))}
            >
                Indent
            </button>
        </Field>
    );
}

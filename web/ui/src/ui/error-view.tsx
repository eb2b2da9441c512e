// An error of the database, as a job has met it.
import { conditionName } from '../format';
import type { JobError } from '../types';

export function ErrorView({ error }: { error: JobError }) {
    const { sqlstate, message, detail, hint, context } = error;
    const isHidden = message == null && detail == null;
    return (
        <div class="error-view">
            <p class="error-message">
                {sqlstate && (
                    <span class="sqlstate" title={conditionName(sqlstate)}>
                        {sqlstate}
                    </span>
                )}{' '}
                {message ?? (
                    <span class="quiet">
                        {isHidden
                            ? `${conditionName(sqlstate) || 'an error'}; its text is hidden from your role`
                            : 'no message'}
                    </span>
                )}
            </p>
            {detail && (
                <p>
                    <b>Detail</b> {detail}
                </p>
            )}
            {hint && (
                <p>
                    <b>Hint</b> {hint}
                </p>
            )}
            {context && (
                <details>
                    <summary>Context</summary>
                    <pre tabIndex={0}>{context}</pre>
                </details>
            )}
        </div>
    );
}

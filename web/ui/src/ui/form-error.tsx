import type { ApiError } from '../api';
import { Icon } from './icons';
import { capital } from './problem';

/** Why the server has not taken a form. After a new login it can be sent again. */
export function FormError({ error }: { error: ApiError | undefined }) {
    return (
        <div class="form-error" role="alert" data-testid="form-error">
            {error && (
                <>
                    <Icon name="warning" />
                    <div>
                        <p>
                            {error.status === 401
                                ? 'The session had ended. Log in again, then send this once more.'
                                : capital(error.message)}
                        </p>
                        {error.detail && <p>{error.detail}</p>}
                        {error.hint && <p>{error.hint}</p>}
                    </div>
                </>
            )}
        </div>
    );
}

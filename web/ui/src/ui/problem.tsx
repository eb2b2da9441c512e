// What went wrong, in the place of what could not be shown, or above what is shown although it is old.
import { now } from '../clock';
import { relative } from '../format';
import { session } from '../session';
import { serverAway, type ApiError } from '../api';
import { streamState } from '../stream';
import { href } from '../router';
import { Icon } from './icons';

export function Problem({
    error,
    retry,
    label = 'Try again',
}: {
    error: ApiError;
    retry?: () => void;
    label?: string;
}) {
    const noRight = error.status === 403;
    const isGone = error.status === 404;
    return (
        <div class={`problem ${isGone ? 'problem-calm' : ''}`} role="alert" data-testid="problem">
            <Icon name={isGone ? 'info' : noRight ? 'lock' : 'warning'} />
            <div>
                <p class="problem-text">
                    {noRight && session.value ? `Role ${session.value.role} may not see this.` : capital(error.message)}
                </p>
                {error.detail && <p>{error.detail}</p>}
                {error.hint && <p>{error.hint}</p>}
                {noRight && (
                    <p>
                        The database says: {error.message}. backfill.grant_monitor() or backfill.grant_admin() gives the
                        right.
                    </p>
                )}
                <p class="quiet">
                    {error.status ? `HTTP ${error.status}, code ${error.code}` : 'no answer'}
                    {error.isPassing && '; it is tried again by itself'}
                </p>
            </div>
            {retry && !isGone && (
                <button type="button" class="button" onClick={retry}>
                    {label}
                </button>
            )}
            {isGone && (
                <a class="button" href={href('/')}>
                    Overview
                </a>
            )}
        </div>
    );
}

/** The database's messages begin in lower case. */
export function capital(text: string): string {
    // Unless they begin with a name, as of an argument.
    const isName = /^\w*_/.test(text);
    return (isName ? text : text.charAt(0).toUpperCase() + text.slice(1)) + (/[.!?]$/.test(text) ? '' : '.');
}

export function Stale({ error, at, retry }: { error: ApiError; at: number; retry: () => void }) {
    void now.value;
    // The banner above says it for the whole page.
    if (serverAway.value || streamState.value === 'gone') return null;
    return (
        <div class="stale" role="status" data-testid="stale">
            <Icon name="warning" />
            <span>
                This is as of {relative(at, Date.now())}. {capital(error.message)} {error.hint}
            </span>
            <button type="button" class="link-button" onClick={retry}>
                Try now
            </button>
        </div>
    );
}

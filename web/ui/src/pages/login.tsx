// The login is a role of PostgreSQL. It is a page of its own, or a dialog above the page that a session has ended on, so
// that what was being typed there stays.
import { useState } from 'preact/hooks';
import { ApiError } from '../api';
import { databaseParam } from '../router';
import { logIn, session } from '../session';
import { Dialog } from '../ui/dialog';
import { TextField } from '../ui/form';
import { Icon } from '../ui/icons';
import { capital } from '../ui/problem';
import { Logo } from '../ui/shell';

function LoginForm({ user: known = '', inDialog }: { user?: string; inDialog?: boolean }) {
    const [user, setUser] = useState(known);
    const [password, setPassword] = useState('');
    const [error, setError] = useState<ApiError>();
    const [busy, setBusy] = useState(false);
    const submit = async (event: Event) => {
        event.preventDefault();
        setBusy(true);
        setError(undefined);
        try {
            await logIn(user, password, databaseParam.value ?? undefined);
        } catch (problem) {
            setError(problem instanceof ApiError ? problem : new ApiError(String(problem), 0, 'failed'));
            setBusy(false);
        }
    };
    return (
        <form class={inDialog ? 'dialog-body' : 'login-form'} onSubmit={submit} data-testid="login-form">
            <TextField
                label="Role"
                name="username"
                value={user}
                onChange={setUser}
                required
                autoFocus={!known}
                autoComplete="username"
            />
            <TextField
                label="Password"
                name="password"
                type="password"
                value={password}
                onChange={setPassword}
                required
                autoFocus={!!known}
                autoComplete="current-password"
            />
            <div class="login-error" role="alert">
                {error && (
                    <>
                        <Icon name="warning" />
                        <span>
                            {capital(error.message)} {error.hint}
                        </span>
                    </>
                )}
            </div>
            <button type="submit" class="button button-main login-button" disabled={busy}>
                {busy ? 'Logging in …' : 'Log in'}
            </button>
        </form>
    );
}

export function LoginPage() {
    return (
        <main class="login">
            <div class="login-box">
                <h1>
                    <Logo /> backfill
                </h1>
                <p class="quiet">Log in as a role of the database. What the role may do is what you can do here.</p>
                <LoginForm />
            </div>
        </main>
    );
}

export function LoginDialog() {
    return (
        <Dialog title="Your session has ended" onClose={() => {}} class="dialog-small" stays>
            <p class="dialog-note">Log in again. Nothing that you have typed is lost.</p>
            <LoginForm user={session.value?.user} inDialog />
        </Dialog>
    );
}

// For a newcomer with an empty database: the way to the first job.
import { enqueueOpen } from '../pages/enqueue';
import { may } from '../session';
import { Code } from './basics';
import { Icon } from './icons';

const handler = `CREATE TABLE greeting (name text, at timestamptz DEFAULT now());
CREATE FUNCTION greet(payload jsonb) RETURNS void LANGUAGE sql
    AS $$ INSERT INTO greeting (name) VALUES (payload ->> 'name') $$;`;
const register = `SELECT backfill.register_task('greet', 'greet(jsonb)');`;
const enqueue = `SELECT backfill.enqueue('greet', '{"name": "world"}');`;

export function Guide() {
    return (
        <section class="guide" aria-labelledby="guide-title" data-testid="guide">
            <h2 id="guide-title">Your first job</h2>
            <p>
                No task is registered in this database, and no job waits. Three statements, in psql or any other client,
                change that:
            </p>
            <ol class="guide-steps">
                <li>
                    <h3>A function does the work</h3>
                    <p>It gets the job's payload. What it does is one transaction with the end of the job.</p>
                    <Code text={handler} />
                </li>
                <li>
                    <h3>A task gives it a name</h3>
                    <p>The server runs the function for every job of this task, as the role that registers it.</p>
                    <Code text={register} />
                </li>
                <li>
                    <h3>A job calls it</h3>
                    <p>When this commits, a worker of the server picks the job up. It appears here by itself.</p>
                    <Code text={enqueue} />
                    {may('jobs.enqueue') && (
                        <button
                            type="button"
                            class="button button-main"
                            onClick={() =>
                                (enqueueOpen.value = { task_identifier: 'greet', payload: '{"name": "world"}' })
                            }
                        >
                            <Icon name="plus" /> Or enqueue it here
                        </button>
                    )}
                </li>
            </ol>
        </section>
    );
}

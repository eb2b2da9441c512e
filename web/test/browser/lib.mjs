// What the tests in the browser share: TAP, the program, SQL, and pages that are watched: an error in the console, a
// request to elsewhere, or a dialog that a planted script opens is a failure.
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { chromium } from 'playwright-core';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
// Nothing is expected to be done in a time; this one only ends a wait for what does not come.
export const patience = 120_000 * Number(process.env.BACKFILL_TEST_SLOWNESS ?? 1);

let count = 0;
let failures = 0;

export function ok(good, name, detail = '') {
    count += 1;
    failures += good ? 0 : 1;
    console.log(`${good ? 'ok' : 'not ok'} ${count} - ${name}`);
    if (!good) console.log(`#   ${String(detail || new Error('here').stack).replaceAll('\n', '\n#   ').slice(0, 4000)}`);
}
export function equal(got, wanted, name) {
    ok(JSON.stringify(got) === JSON.stringify(wanted), name, `got ${JSON.stringify(got)}\nwanted ${JSON.stringify(wanted)}`);
}

/** Waits for something that the test has brought about. */
export async function until(condition, what) {
    const deadline = Date.now() + patience;
    for (;;) {
        const value = await condition();
        if (value) return value;
        if (Date.now() > deadline) throw new Error(`waited in vain: ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 100));
    }
}

export function sql(text) {
    return execFileSync('psql', ['-XqAt', '-v', 'ON_ERROR_STOP=1', '-U', 'postgres', '-d', 'postgres', '-c', text], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
}

/** pg_ctl ACTION, as the server's owner. */
export function pgCtl(action) {
    const bin = execFileSync(process.env.PG_CONFIG, ['--bindir'], { encoding: 'utf8' }).trim();
    const command = [`${bin}/pg_ctl`, '-D', `${process.env.PGHOST}/data`, '-l', `${process.env.PGHOST}/server.log`, '-w', '-m', 'fast', action];
    if (process.getuid() === 0) command.unshift('runuser', '-u', 'postgres', '--');
    execFileSync(command[0], command.slice(1), { cwd: '/', stdio: 'ignore' });
}

function freePort() {
    return new Promise((resolve) => {
        const probe = createServer().listen(0, '127.0.0.1', () => {
            const { port } = probe.address();
            probe.close(() => resolve(port));
        });
    });
}

/** The program, listening on a port of its own. */
export async function startProgram(port) {
    port ??= await freePort();
    const url = `http://127.0.0.1:${port}`;
    const child = spawn(process.env.BACKFILL_WEB, ['--listen', `127.0.0.1:${port}`, '--database', `main=host=${process.env.PGHOST} dbname=postgres`], { stdio: ['ignore', 'ignore', 'pipe'] });
    let messages = '';
    child.stderr.on('data', (data) => (messages += data));
    const ended = new Promise((resolve) => child.on('close', (code) => resolve(code)));
    const answers = () => fetch(`${url}/healthz`).then((reply) => reply.ok, () => false);
    await until(() => child.exitCode === null ? answers() : Promise.reject(new Error(`the program ended: ${messages}`)), 'the program listens');
    return {
        url,
        port,
        messages: () => messages,
        async stop() {
            child.kill('SIGTERM');
            return ended;
        },
        kill: () => child.kill('SIGKILL'),
    };
}

export const openBrowser = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });

// Before the login the page asks whether there is a session, and the browser notes the answer.
const noSession = /status of 401/;

/**
 * A page with a session of its own. What is wrong with it is in page.problems; "expected" passes what a test brings about.
 * Without motion nothing is looked at half-way, such as the colours of what is about to be shown.
 */
export async function openPage(browser, url, options = {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: 'en-GB', timezoneId: 'UTC', reducedMotion: 'reduce', ...options });
    context.setDefaultTimeout(patience);
    const page = await context.newPage();
    page.problems = [];
    page.expected = noSession;
    page.on('console', (message) => {
        if (['error', 'warning'].includes(message.type()) && !page.expected.test(message.text())) page.problems.push(`console: ${message.text()}`);
    });
    page.on('pageerror', (error) => page.problems.push(`error: ${error.stack}`));
    page.on('dialog', (dialog) => {
        page.problems.push(`a dialog was opened: ${dialog.message()}`);
        void dialog.dismiss();
    });
    page.on('request', (request) => {
        if (!request.url().startsWith(url) && !request.url().startsWith('data:')) page.problems.push(`a request to ${request.url()}`);
    });
    return page;
}
// The browser itself notes these.
export const expectAbsence = (page) => (page.expected = /status of 404/);
export const expectOutage = (page) => (page.expected = /status of (401|503)|net::ERR_/);

export async function logIn(page, url, role, path = '/') {
    await page.goto(url + path);
    await page.getByLabel('Role').fill(role);
    await page.getByLabel('Password').fill(role);
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByTestId('user-menu').waitFor();
    page.expected = /^$/;
}

/** What axe-core finds on the page as it is now. */
export async function axeFindings(page) {
    if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(axeSource);
    const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
    return violations.map((violation) => `${violation.id}: ${violation.help}: ${violation.nodes.slice(0, 3).map((node) => `${node.target.join(' ')} ${node.failureSummary}`).join('; ')}`);
}

/** Runs the tests, each with the same browser, and ends with TAP's plan. */
export async function run(tests) {
    const browser = await openBrowser();
    const only = process.argv.slice(2);
    for (const [name, test] of Object.entries(tests)) {
        if (only.length && !only.includes(name)) continue;
        console.log(`# ${name}`);
        try {
            await test(browser);
        } catch (error) {
            ok(false, `${name} ended early`, error.stack);
        }
        for (const context of browser.contexts()) await context.close();
    }
    await browser.close();
    console.log(`1..${count}`);
    process.exitCode = failures ? 1 : 0;
}

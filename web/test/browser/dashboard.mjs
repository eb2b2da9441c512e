// The real page of the real program in a real browser, with real jobs. Prints TAP.
//
// run.sh gives a server of PostgreSQL with executors; it has the extension, and no roles yet.
import { execFileSync } from 'node:child_process';
import { axeFindings, equal, expectAbsence, expectOutage, logIn, ok, openPage, pgCtl, run, sql, startProgram, until } from './lib.mjs';

execFileSync('psql', ['-Xq', '-U', 'postgres', '-d', 'postgres', '-o', '/dev/null', '-f', new URL('setup.sql', import.meta.url).pathname]);
let program = await startProgram();
const { url } = program;
const dead = (where) => sql(`SELECT count(*) FROM backfill.dlq WHERE ${where}`);
const noProblems = (page, name) => equal(page.problems, [], `${name}: the console is free of errors`);
const rows = (page, testid) => page.getByTestId(testid).locator('tbody tr[data-key]');
const marked = (page) => page.evaluate(() => (window.notReloaded = true));
const isMarked = (page) => page.evaluate(() => window.notReloaded === true);

await until(() => dead('true') === '82', 'jobs have failed');
const letters = { xss: sql(`SELECT id FROM backfill.dlq WHERE task_identifier LIKE '<img%'`), one: sql(`SELECT min(id) FROM backfill.dlq WHERE last_error ->> 'sqlstate' = '23514' AND task_identifier = 'fragile'`) };
const waiting = sql(`SELECT max(id) FROM backfill.jobs WHERE job_key IS NULL AND task_identifier = 'waits'`);
const keyed = sql(`SELECT id FROM backfill.jobs WHERE job_key IS NOT NULL`);
const hostileQueue = '/queues/' + encodeURIComponent('"><script>alert(2)</script>');
const everyPage = ['/', '/jobs', `/jobs/${waiting}`, '/queues', '/queues/orders', '/dlq', '/dlq?view=letters', `/dlq/${letters.one}`, '/schedules', '/workers', '/tasks', '/history', '/audit'];

/** The page's data is there: nothing is a placeholder any more. */
async function settle(page) {
    await page.locator('h1').first().waitFor();
    await page.waitForFunction(() => !document.querySelector('.skeleton'));
}

await run({
    async login(browser) {
        const page = await openPage(browser, url);
        await page.goto(url);
        await page.getByLabel('Role').fill('admin');
        await page.getByLabel('Password').fill('wrong');
        await page.getByRole('button', { name: 'Log in' }).click();
        await page.getByRole('alert').filter({ hasText: /\w/ }).waitFor();
        equal(await axeFindings(page), [], 'the login page: axe-core finds nothing');
        ok(await page.getByLabel('Password').isVisible(), 'a wrong password is refused, and the form stays');
        await page.getByLabel('Password').fill('admin');
        await page.getByLabel('Password').press('Enter');
        await page.getByTestId('user-menu').waitFor();
        await page.getByTestId('user-menu').click();
        await page.getByTestId('logout').click();
        await page.getByTestId('login-form').waitFor();
        ok(true, 'logged in and out');
        noProblems(page, 'login');
    },

    async everyPage(browser) {
        for (const colorScheme of ['light', 'dark']) {
            const page = await openPage(browser, url, { colorScheme });
            await logIn(page, url, 'admin');
            for (const path of everyPage) {
                await page.goto(url + path);
                await settle(page);
                equal(await page.getByTestId('problem').count(), 0, `${path}, ${colorScheme}: it shows no problem`);
                equal(await axeFindings(page), [], `${path}, ${colorScheme}: axe-core finds nothing`);
            }
            noProblems(page, `all pages, ${colorScheme}`);
        }
        const narrow = await openPage(browser, url, { viewport: { width: 390, height: 800 } });
        await logIn(narrow, url, 'admin');
        for (const path of everyPage) {
            await narrow.goto(url + path);
            await settle(narrow);
            const overhang = await narrow.evaluate(() => document.documentElement.scrollWidth - innerWidth);
            ok(overhang <= 0, `${path}: nothing hangs over on a phone`, `${overhang} pixels`);
        }
    },

    async roles(browser) {
        for (const [role, names, canAct] of [
            ['admin', ['Overview', 'Jobs', 'Queues', 'Dead letters', 'Schedules', 'Workers', 'Tasks', 'History', 'Audit'], true],
            ['monitor', ['Overview', 'Jobs', 'Queues', 'Dead letters', 'Schedules', 'Workers', 'Tasks', 'History', 'Audit'], false],
            ['consumer', ['Jobs', 'Queues', 'Tasks'], false],
            ['producer', ['Jobs'], false],
        ]) {
            const page = await openPage(browser, url);
            await logIn(page, url, role);
            const shown = (await page.locator('#menu a').allInnerTexts()).map((text) => text.split('\n')[0].trim());
            equal(shown, names, `${role}: the menu has what the role may see`);
            for (const name of names) {
                await page.locator('#menu a').filter({ hasText: name }).click();
                await settle(page);
                equal(await page.getByTestId('problem').count(), 0, `${role}: ${name} is shown`);
            }
            await page.goto(`${url}/queues/orders`);
            await settle(page);
            equal((await page.getByTestId('pause').count()) > 0, canAct, `${role}: ${canAct ? 'may' : 'is not offered to'} pause a queue`);
            noProblems(page, role);
        }
    },

    async monitorSeesNoPayloads(browser) {
        const page = await openPage(browser, url);
        await logIn(page, url, 'monitor', `/dlq/${letters.one}`);
        await settle(page);
        equal(await page.getByTestId('requeue').count(), 0, 'a monitor is not offered to requeue');
        ok(!(await page.locator('main').innerText()).includes('"n"'), 'nor shown the payload');
    },

    async producerEnqueues(browser) {
        const page = await openPage(browser, url);
        await logIn(page, url, 'producer');
        await page.getByTestId('enqueue').first().click();
        const form = page.getByTestId('enqueue-form');
        await form.getByLabel('Task').fill('waits');
        await form.getByLabel('Payload').fill('{"from": "the page", "n": 12345678901234567890}');
        await form.getByTestId('enqueue-submit').click();
        await until(() => sql(`SELECT payload FROM backfill.jobs WHERE payload ->> 'from' = 'the page'`).includes('12345678901234567890'), 'the job is there');
        ok(true, 'a producer enqueues a job, with all digits of its payload');
        noProblems(page, 'producer');
    },

    async markupStaysText(browser) {
        const page = await openPage(browser, url);
        await logIn(page, url, 'admin');
        for (const [path, text] of [
            ['/jobs', '"><script>alert(2)</script>'],
            [`/jobs/${keyed}`, '<svg onload=alert(6)>'],
            [`/jobs/${keyed}`, '</script><script>alert(5)</script>'],
            ['/queues', '"><script>alert(2)</script>'],
            [hostileQueue, '"><script>alert(2)</script>'],
            ['/dlq', '<script>alert(3)</script><b>bold</b>'],
            ['/dlq?view=letters', '<img src=x onerror="alert(1)">'],
            [`/dlq/${letters.xss}`, '<script>alert(3)</script><b>bold</b>'],
            [`/dlq/${letters.xss}`, '<img src=y onerror=alert(4)>'],
            ['/tasks', '<img src=x onerror="alert(1)">'],
            ['/jobs?task_identifier=' + encodeURIComponent('"><img src=z onerror=alert(7)>'), 'jobs'],
        ]) {
            await page.goto(url + path);
            await settle(page);
            await until(async () => (await page.locator('main').innerText()).replaceAll('\\"', '"').includes(text), `${text} is shown on ${path}`);
            equal(await page.locator('main img, main script, main b:text("bold"), main svg[onload]').count(), 0, `${path}: ${text} is text`);
        }
        noProblems(page, 'markup');
    },

    async editAndRequeue(browser) {
        const page = await openPage(browser, url);
        await logIn(page, url, 'admin', `/dlq/${letters.one}`);
        await settle(page);
        const job = sql(`SELECT original_job_id FROM backfill.dlq WHERE id = ${letters.one}`);
        await page.getByTestId('edit').click();
        const form = page.getByTestId('letter-form');
        await form.getByLabel('Payload').fill('{"good": ');
        ok(await form.getByTestId('letter-requeue').isDisabled(), 'a payload that is no JSON cannot be sent');
        await form.getByLabel('Payload').fill('{"good": true}');
        equal(await axeFindings(page), [], 'the form: axe-core finds nothing');
        expectAbsence(page); // the page looks again for the letter, which is gone
        await form.getByTestId('letter-requeue').click();
        await until(() => dead(`id = ${letters.one}`) === '0', 'the job succeeds and the letter goes');
        ok(true, 'a corrected letter is requeued and done');
        await page.goto(`${url}/jobs/${job}`);
        await settle(page);
        await page.getByTestId('timeline').locator('[data-event=ended]').getByText(/completed/i).first().waitFor();
        ok(true, 'and its story says so');
        noProblems(page, 'a letter');
    },

    // A reader, or a slow machine, may do the next thing before the page has had a frame for the last one.
    async filterAtOnce(browser) {
        const page = await openPage(browser, url);
        await logIn(page, url, 'admin', '/dlq');
        await page.getByRole('navigation', { name: 'Views of the dead letters' }).waitFor();
        const typed = await page.evaluate(async () => {
            const frame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
            document.querySelector('nav[aria-label="Views of the dead letters"] a[href*="view=letters"]').click();
            let field;
            for (let turn = 0; turn < 1000 && !field; turn++, await null) field = document.querySelector('input[name=sqlstate]');
            field.value = '23514';
            field.dispatchEvent(new InputEvent('input', { bubbles: true }));
            await frame();
            await frame();
            return field.value;
        });
        equal(typed, '23514', 'what is typed into a filter that has just come stays');
        await page.waitForURL(/sqlstate=23514/);
        await page.getByTestId('list-head').getByText(`${dead(`last_error ->> 'sqlstate' = '23514'`)} dead letters`).first().waitFor();
        await page.getByLabel('Select all on this page').check();
        await page.getByTestId('select-all').click();
        await page.getByTestId('delete-many').waitFor();
        const shown = await page.evaluate(async () => {
            const field = document.querySelector('input[name=job_key]');
            field.value = 'another';
            field.dispatchEvent(new InputEvent('input', { bubbles: true }));
            field.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true }));
            for (let turn = 0; turn < 1000; turn++) await null;
            return [new URLSearchParams(location.search).get('job_key'), document.querySelectorAll('[data-testid=delete-many]').length];
        });
        equal(shown, ['another', 0], 'a selection is gone with its filter, before it could act on what another one shows');
        noProblems(page, 'filters at once');
    },

    async requeueByFilter(browser) {
        const page = await openPage(browser, url);
        await logIn(page, url, 'admin', '/dlq');
        await page.getByTestId('dlq-groups').getByRole('link', { name: 'fragile' }).first().waitFor();
        await page.getByRole('navigation', { name: 'Views of the dead letters' }).getByRole('link', { name: 'All letters' }).click();
        const search = page.getByRole('search');
        await search.getByLabel('SQLSTATE').fill('23514');
        await search.getByLabel('Task').fill('fragile');
        await search.getByLabel('Task').press('Enter');
        const passing = `task_identifier = 'fragile' AND last_error ->> 'sqlstate' = '23514'`;
        const wanted = Number(dead(passing));
        ok(wanted > 50, 'the filter shows more letters than a page has');
        await page.getByTestId('list-head').getByText(`${wanted} dead letters`).first().waitFor();
        equal(await rows(page, 'letters').count(), 50, 'a page of them is shown');
        const query = new URL(page.url()).searchParams;
        equal([query.get('task_identifier'), query.get('sqlstate')], ['fragile', '23514'], 'the filter is in the address');
        await marked(page);
        sql('INSERT INTO public.repaired VALUES (now())');
        await page.getByLabel('Select all on this page').check();
        await page.getByTestId('select-all').click();
        await page.getByText(`All ${wanted} dead letters that the filter shows`).waitFor();
        await page.getByTestId('requeue-many').click();
        await page.getByTestId('requeue-form').getByLabel('Note').fill('the shop is open');
        equal(await axeFindings(page), [], 'the question: axe-core finds nothing');
        await page.getByTestId('requeue-submit').click();
        await page.getByTestId('notices').getByText(`${wanted} jobs requeued`).waitFor();
        await until(() => dead(passing) === '0', 'they succeed');
        await page.getByText('No dead letter passes this filter.').waitFor();
        ok(await isMarked(page), 'all are seen done, without a reload');
        equal(dead(`last_error ->> 'sqlstate' = '22012'`), '11', 'the others stay');
        noProblems(page, 'requeueing');
    },

    async requeueGroupAndDelete(browser) {
        const page = await openPage(browser, url);
        await logIn(page, url, 'admin', '/dlq');
        const group = rows(page, 'dlq-groups').filter({ hasText: '22012' });
        await group.getByText('11').waitFor();
        await marked(page);
        await group.getByRole('button', { name: 'Requeue' }).click();
        await page.getByTestId('requeue-submit').click();
        await until(() => dead(`last_error ->> 'sqlstate' = '22012'`) === '0', 'the jobs of a cause are requeued, and done');
        await group.waitFor({ state: 'detached' });
        ok(await isMarked(page), 'their line goes without a reload');
        await page.goto(`${url}/dlq/${letters.xss}`);
        expectAbsence(page);
        await page.getByTestId('delete').click();
        await page.getByTestId('confirm').click();
        await until(() => dead('true') === '0', 'the letter is deleted');
        ok(true, 'a letter is deleted after a question');
        noProblems(page, 'causes');
    },

    async scheduleByForm(browser) {
        const page = await openPage(browser, url);
        await logIn(page, url, 'admin', '/schedules');
        await page.getByTestId('schedule-new').click();
        const form = page.getByTestId('schedule-form');
        await form.getByLabel('Name').fill('weekly');
        await form.getByLabel('Cron expression').fill('30 4 * * 1');
        await form.getByTestId('cron-preview').getByText('04:30').first().waitFor();
        await form.getByLabel('Task').fill('waits');
        equal(await axeFindings(page), [], 'the form of a schedule: axe-core finds nothing');
        await form.getByTestId('schedule-submit').click();
        const row = rows(page, 'schedules').filter({ hasText: 'weekly' });
        await row.waitFor();
        const enqueued = () => sql(`SELECT count(*) FROM backfill.jobs WHERE task_identifier = 'waits'`);
        const before = Number(enqueued());
        await row.getByTestId('schedule-run').click();
        await until(() => Number(enqueued()) === before + 1, 'its job is enqueued now');
        ok(true, 'a schedule is made, with the times of its next runs beside it, and run now');
        noProblems(page, 'a schedule');
    },

    async editAndRescheduleJob(browser) {
        const page = await openPage(browser, url);
        await logIn(page, url, 'admin', `/jobs/${waiting}`);
        await page.getByTestId('edit').click();
        const form = page.getByTestId('edit-form');
        await form.getByLabel('Payload').fill('{"n": 12345678901234567890}');
        await form.getByTestId('edit-submit').click();
        await page.getByTestId('payload').getByText('12345678901234567890').waitFor();
        equal(sql(`SELECT payload FROM backfill.jobs WHERE id = ${waiting}`), '{"n": 12345678901234567890}', 'a waiting job gets another payload');
        await page.getByTestId('reschedule').click();
        await page.getByTestId('reschedule-form').getByLabel('Priority').fill('-7');
        await page.getByTestId('reschedule-form').locator('button[type=submit]').click();
        await until(() => sql(`SELECT priority FROM backfill.jobs WHERE id = ${waiting}`) === '-7', 'it is rescheduled');
        ok(true, 'and another priority');
        noProblems(page, 'a waiting job');
    },

    async pauseQueue(browser) {
        const page = await openPage(browser, url);
        await logIn(page, url, 'admin', '/queues/orders');
        await page.getByTestId('pause').click();
        await page.getByTestId('resume').waitFor();
        equal(sql(`SELECT paused FROM backfill.queues WHERE queue_name = 'orders'`), 't', 'a queue is paused');
        await page.getByTestId('resume').click();
        await page.getByTestId('pause').waitFor();
        equal(sql(`SELECT paused FROM backfill.queues WHERE queue_name = 'orders'`), 'f', 'and resumed');
        await page.goto(`${url}/audit`);
        await rows(page, 'audit').filter({ hasText: 'pause queue' }).filter({ hasText: 'orders' }).first().waitFor();
        ok(true, 'the audit page says so');
        noProblems(page, 'a queue');
    },

    async progressAndCancel(browser) {
        const job = sql(`SELECT backfill.enqueue('long')`);
        await until(() => sql(`SELECT state FROM backfill.jobs WHERE id = ${job}`) === 'running', 'the job runs');
        const page = await openPage(browser, url);
        await logIn(page, url, 'admin', `/jobs/${job}`);
        const progress = page.getByTestId('progress');
        await progress.getByText(/step \d+/).waitFor();
        await marked(page);
        const step = async () => Number((await progress.innerText()).match(/step (\d+)/)?.[1]);
        const first = await step();
        await until(async () => (await step()) > first, 'progress moves');
        ok(await isMarked(page), 'progress moves without a reload');
        await page.getByTestId('cancel').click();
        await page.getByTestId('confirm').click();
        await until(() => sql(`SELECT count(*) FROM backfill.jobs WHERE id = ${job}`) === '0', 'the job stops');
        await page.locator('h1 ~ *, .page-title').getByText(/cancelled/i).first().waitFor();
        ok(await isMarked(page), 'a running job is cancelled, and the page says so by itself');
        noProblems(page, 'a running job');
    },

    async linksAndKeyboard(browser) {
        const page = await openPage(browser, url);
        await logIn(page, url, 'admin', '/jobs?task_identifier=waits&queue_name=orders');
        await until(async () => (await rows(page, 'jobs').count()) === 50, 'a link with filters leads to them, also by way of the login');
        equal(await page.getByRole('search').getByLabel('Task').inputValue(), 'waits', 'the filter is in its field');
        const id = await rows(page, 'jobs').nth(2).getAttribute('data-key');
        await rows(page, 'jobs').nth(2).locator('a').first().click();
        await page.waitForURL(`${url}/jobs/${id}`);
        await page.goBack();
        await until(async () => (await rows(page, 'jobs').count()) === 50, 'back leads to the list');
        equal(new URL(page.url()).searchParams.get('queue_name'), 'orders', 'with its filter');
        await page.getByRole('button', { name: 'Next' }).click();
        await until(async () => (await rows(page, 'jobs').count()) < 50, 'the next page');
        await page.goBack();
        await until(async () => (await rows(page, 'jobs').count()) === 50, 'back leads to the page before');
        await page.reload();
        await until(async () => (await rows(page, 'jobs').count()) === 50, 'a reload shows the same');
        await page.keyboard.press('j');
        await page.keyboard.press('j');
        await page.keyboard.press('x');
        await page.getByText('1 job selected').waitFor();
        const second = await rows(page, 'jobs').nth(1).getAttribute('data-key');
        await page.keyboard.press('Enter');
        await page.waitForURL(`${url}/jobs/${second}`);
        ok(true, 'j, x and Enter move, select and open');
        // The second key has to follow soon, which a busy machine may miss.
        await until(async () => {
            await page.keyboard.press('g');
            await page.keyboard.press('q');
            return page.url() === `${url}/queues`;
        }, 'g q leads to the queues');
        await page.keyboard.press('?');
        await page.getByRole('dialog', { name: 'Keyboard' }).waitFor();
        equal(await axeFindings(page), [], 'the help: axe-core finds nothing');
        await page.keyboard.press('Escape');
        await page.getByRole('dialog').waitFor({ state: 'hidden' });
        await page.keyboard.press('/');
        await page.keyboard.type(id);
        await page.getByRole('option').first().waitFor();
        equal(await axeFindings(page), [], 'the search: axe-core finds nothing');
        await page.keyboard.press('Enter');
        await page.waitForURL(`${url}/jobs/${id}`);
        ok(true, 'g, ?, Esc and / do what the help says');
        expectAbsence(page);
        await page.goto(`${url}/nothing/here`);
        await page.getByText('There is no such page.').waitFor();
        await page.goto(`${url}/jobs/999999999`);
        await page.locator('[data-testid=problem]').waitFor();
        ok(true, 'what is not there is said not to be there');
        noProblems(page, 'links');
    },

    async outages(browser) {
        const page = await openPage(browser, url);
        await logIn(page, url, 'admin');
        await page.getByTestId('live').getByText('Live').waitFor();
        await marked(page);
        expectOutage(page);
        pgCtl('stop');
        await page.getByTestId('banner-database').waitFor();
        ok(true, 'the page says that the database is away');
        equal(await axeFindings(page), [], 'and axe-core finds nothing');
        pgCtl('start');
        await page.getByTestId('banner-database').waitFor({ state: 'hidden' });
        await page.getByTestId('live').getByText('Live').waitFor();
        ok(await isMarked(page), 'it finds its way back when the database is back');
        program.kill();
        await page.getByTestId('banner-server').waitFor();
        ok(true, 'the page says that the program is away');
        program = await startProgram(program.port);
        await page.getByRole('dialog').getByLabel('Password').fill('admin');
        await page.getByRole('dialog').getByRole('button', { name: 'Log in' }).click();
        await page.getByTestId('live').getByText('Live').waitFor();
        ok(await isMarked(page), 'it asks for the password, which a program that was restarted has forgotten, and goes on');
        await page.locator('#menu a').filter({ hasText: 'Queues' }).click();
        await rows(page, 'queues').first().waitFor();
        noProblems(page, 'outages');
    },

    async end() {
        equal(await program.stop(), 0, 'the program ends clean');
        ok(!/internal error|runtime error/.test(program.messages()), 'and has found nothing wrong with itself', program.messages());
    },
});
program.kill();

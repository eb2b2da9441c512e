// Takes the pictures of the guides, from the demo: "make web-pictures" starts it. They go to docs/pictures.
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
const { chromium } = createRequire(new URL('test/browser/package.json', import.meta.url))('playwright-core');

const url = process.env.WEB_URL;
const directory = fileURLToPath(new URL('../docs/pictures/', import.meta.url));
const wide = { width: 1280, height: 800 };
const low = { width: 1280, height: 500 };
const phone = { width: 390, height: 780 };
// Seconds that the charts show before they are pictured.
const watched = Number(process.env.WATCH ?? 240);

const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
});

async function logIn(viewport, colorScheme) {
    const context = await browser.newContext({ viewport, colorScheme, locale: 'en-GB', timezoneId: 'UTC', reducedMotion: 'reduce' });
    context.setDefaultTimeout(300_000);
    const page = await context.newPage();
    await page.goto(url);
    await page.getByLabel('Role').fill('admin');
    await page.getByLabel('Password').fill('admin');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByTestId('user-menu').waitFor();
    return page;
}

async function take(page, name, path) {
    if (path) await page.goto(url + path);
    await page.locator('h1').first().waitFor();
    await page.waitForFunction(() => !document.querySelector('.skeleton'));
    await page.locator('.live-live').waitFor();
    await page.mouse.move(0, 0);
    await page.screenshot({ path: `${directory}${name}.png` });
    console.log(`docs/pictures/${name}.png`);
}

/** The first job of a kind that has a page of its own. */
const find = (page, path, field) =>
    page.evaluate(async ([from, name]) => (await (await fetch(`/api/v1${from}`)).json())[name][0]?.id, [path, field]);

const light = await logIn(wide, 'light');
await light.evaluate(
    (wanted) =>
        new Promise((resolve) => {
            const source = new EventSource('/api/v1/stream');
            let seen = 0;
            source.addEventListener('sample', () => {
                seen += 1;
                if (seen >= wanted) resolve(source.close());
            });
        }),
    watched,
);
const dark = await logIn(wide, 'dark');
for (const page of [light, dark]) {
    await page.goto(url);
    await page.getByRole('button', { name: '5 min', exact: true }).dispatchEvent('click'); // wherever it is just now
}
await take(light, 'overview-light');
await take(dark, 'overview-dark');
await light.setViewportSize(low);
await take(light, 'jobs', '/jobs');
await take(light, 'dead-letters', '/dlq');
await light.goto(`${url}/schedules`);
await light.getByRole('button', { name: 'nightly clean-up', exact: true }).click();
await take(light, 'schedules');
await take(light, 'queue', '/queues/mail');
await take(dark, 'dead-letter', `/dlq/${await find(dark, '/dlq?task_identifier=charge_card&limit=1', 'letters')}`);
const report = '/jobs?task_identifier=make_report&state=running&limit=1';
// A report that ends before it is pictured is followed by another.
do {
    while (!(await find(dark, report, 'jobs'))) await new Promise((resolve) => setTimeout(resolve, 500));
    await take(dark, 'job', `/jobs/${await find(dark, report, 'jobs')}`);
} while (!(await dark.getByTestId('progress').isVisible()));
const small = await logIn(phone, 'dark');
await small.getByRole('button', { name: '5 min', exact: true }).dispatchEvent('click');
await take(small, 'phone-overview');
await take(await logIn(phone, 'light'), 'phone-jobs', '/jobs');
await browser.close();

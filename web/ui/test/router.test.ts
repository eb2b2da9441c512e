import assert from 'node:assert/strict';
import { test } from 'node:test';

// The router looks at the browser's address when it is loaded.
Object.assign(globalThis, {
    location: { pathname: '/queues/', search: '?database=my+db&state=ready', origin: 'http://localhost' },
});
const { databaseParam, href, nameOf, path, segment } = await import('../src/router');

test('the address has no slash at its end, and keeps its database', () => {
    assert.equal(path.value, '/queues');
    assert.equal(databaseParam.value, 'my db');
    assert.equal(href('/jobs'), '/jobs?database=my+db');
    assert.equal(
        href('/jobs', { state: 'ready', queue_name: null, job_key: '' }),
        '/jobs?state=ready&job_key=&database=my+db',
    );
    assert.equal(href('/jobs', { database: 'other' }), '/jobs?database=other');
    assert.equal(href('/jobs', new URLSearchParams('a=1')), '/jobs?a=1&database=my+db');
});

test('names in a path are encoded', () => {
    assert.equal(segment('eu-west/sync?x#y'), 'eu-west%2Fsync%3Fx%23y');
    assert.equal(segment('<b>'), '%3Cb%3E');
    assert.equal(segment('a.b'), 'a.b');
});

test('every name has a segment of its own, which leads back to it and is no step in the path', () => {
    const names = ['a', 'a b/ä', '.', '..', '/.', '/..', '//..', '...', './', '%2E', '%2F..', '/'];
    for (const name of names) {
        assert.equal(nameOf(segment(name)), name);
        const path = `/queues/${segment(name)}/stats`;
        assert.equal(new URL(path, 'http://localhost').pathname, path);
    }
    assert.equal(new Set(names.map(segment)).size, names.length);
    assert.equal(nameOf('%ff'), '%ff');
});

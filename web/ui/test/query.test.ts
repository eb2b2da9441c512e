import assert from 'node:assert/strict';
import { test } from 'node:test';
import { filterForBody, jobFilters, letterFilters, readFilter, suggest, withParams } from '../src/query';

test('the filter is what the address holds', () => {
    assert.deepEqual(
        readFilter(new URLSearchParams('state=ready&task_identifier=&other=1&min_priority=-5'), jobFilters),
        { state: 'ready', min_priority: '-5' },
    );
    assert.deepEqual(
        readFilter(new URLSearchParams('queue_name=&sqlstate='), letterFilters),
        { queue_name: '', sqlstate: '' },
        'none at all is a filter, too',
    );
});

test('a changed filter leads to the first page', () => {
    const query = new URLSearchParams('state=ready&cursor=abc&database=app');
    assert.equal(withParams(query, { state: 'running' }).toString(), 'state=running&database=app');
    assert.equal(withParams(query, { state: null }).toString(), 'database=app');
    assert.equal(withParams(query, { cursor: 'def' }).get('cursor'), 'def');
    assert.equal(query.get('cursor'), 'abc', 'the current address is left alone');
});

test('in a body numbers and JSON are what they are', () => {
    assert.deepEqual(
        filterForBody({ min_priority: '-5', payload: '{"a":1}', queue_name: '' }, (text) => [text]),
        { min_priority: -5, payload: ['{"a":1}'], queue_name: '' },
    );
});

test('what a text may mean', () => {
    const paths = (text: string) =>
        suggest(text).map((found) => found.path + (found.params ? `?${new URLSearchParams(found.params)}` : ''));
    assert.deepEqual(suggest('  '), []);
    assert.deepEqual(paths('4711').slice(0, 2), ['/jobs/4711', '/dlq/4711']);
    assert.deepEqual(paths('{"a": 1}'), ['/jobs?payload=%7B%22a%22%3A+1%7D']);
    assert.deepEqual(paths('{"a": '), [''], 'unfinished');
    assert.equal(paths('23505')[2], '/dlq?sqlstate=23505');
    assert.equal(paths('send_mail')[0], '/jobs?task_identifier=send_mail');
});

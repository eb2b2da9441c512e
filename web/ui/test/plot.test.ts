import assert from 'node:assert/strict';
import { test } from 'node:test';
import { areaPath, bandPath, linePath, nearest, stretches, timeTicks, valueTicks } from '../src/plot';

test('ticks are round and reach the maximum', () => {
    assert.deepEqual(valueTicks(0), [0, 0.5, 1]);
    assert.deepEqual(valueTicks(350), [0, 200, 400]);
    assert.deepEqual(valueTicks(9), [0, 5, 10]);
    assert.deepEqual(valueTicks(0.07), [0, 0.05, 0.1]);
    assert.deepEqual(valueTicks(200, 3, true), [0, 120, 240], 'durations in minutes');
    for (const max of [1e-6, 0.3, 7, 1234, 9.9e6])
        assert.ok(valueTicks(max).at(-1)! >= max && valueTicks(max).length <= 6, String(max));
});

test('times on full minutes', () => {
    assert.deepEqual(timeTicks(1000, 1300, 5), [1020, 1080, 1140, 1200, 1260]);
    assert.deepEqual(timeTicks(1000, 1300, 2), [1200]);
    assert.ok(timeTicks(0, 3600, 6).length <= 7);
});

test('a gap ends a line, and a column of pixels keeps its peak', () => {
    const lines = stretches([0, 1, 2, 3, 4, 40, 41], [1, 9, 2, null, 5, 6, null], 0, (time) => time / 2);
    assert.equal(lines.length, 2);
    assert.deepEqual(
        lines[0]!.map(({ x, low, high }) => [x, low, high]),
        [
            [0, 1, 9],
            [2, 2, 2],
        ],
    );
    assert.equal(
        linePath(lines, (value) => 10 - value),
        'M0 5L2 8M2 5L20 4',
    );
    assert.equal(
        areaPath([lines[1]!], (value) => 10 - value),
        'M2 10L2 5L20 4L20 10Z',
    );
    assert.equal(
        bandPath([lines[0]!], (value) => 10 - value),
        'M0 1L2 8L2 8L0 9Z',
    );
});

test('a single point is visible', () => {
    assert.equal(
        linePath(
            stretches([5], [1], 0, (time) => time),
            (value) => value,
        ),
        'M6 1L6 1',
    );
});

test('the nearest time', () => {
    const times = [10, 20, 30, 40];
    assert.equal(nearest(times, 24), 1);
    assert.equal(nearest(times, 26), 2);
    assert.equal(nearest(times, 99), 3);
    assert.equal(nearest(times, 1), 0);
    assert.equal(nearest(times, 1, 2), 2);
    assert.equal(nearest([], 1), -1);
});

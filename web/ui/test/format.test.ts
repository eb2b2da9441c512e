import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
    bytes,
    compact,
    conditionName,
    count,
    dateTime,
    dueTime,
    duration,
    fromLocalInput,
    number,
    parseTime,
    percent,
    plural,
    relative,
    splitWhy,
    toLocalInput,
} from '../src/format';

const at = Date.UTC(2026, 7, 4, 13, 5, 9, 42);

test('numbers are grouped, also those that a double cannot hold', () => {
    assert.equal(number(1234567), '1,234,567');
    assert.equal(number('9223372036854775807'), '9,223,372,036,854,775,807');
    assert.equal(number('12'), '12');
    assert.equal(number(-1500), '-1,500');
});

test('a capped count says that there are more', () => {
    assert.equal(count({ count: 10000, capped: true }), '10,000+');
    assert.equal(count({ count: 0, capped: false }), '0');
    assert.equal(count(17), '17');
    assert.equal(count(null), '–');
});

test('plural', () => {
    assert.equal(plural(1, 'job'), '1 job');
    assert.equal(plural(0, 'job'), '0 jobs');
    assert.equal(plural(2, 'entry', 'entries'), '2 entries');
});

test('compact numbers have two or three digits', () => {
    const cases: [number, string][] = [
        [0, '0'],
        [0.034, '0.03'],
        [2.5, '2.5'],
        [14.4, '14'],
        [999, '999'],
        [1000, '1k'],
        [1240, '1.2k'],
        [35400, '35k'],
        [999900, '1M'],
        [2.5e6, '2.5M'],
        [7e9, '7G'],
    ];
    for (const [value, text] of cases) assert.equal(compact(value), text);
});

test('durations have the two largest units', () => {
    const cases: [number, string][] = [
        [0, '0 s'],
        [0.0004, '< 1 ms'],
        [0.0051, '5.1 ms'],
        [0.35, '350 ms'],
        [0.9999, '1 s'],
        [4.25, '4.3 s'],
        [59.6, '1 min'],
        [60, '1 min'],
        [185, '3 min 5 s'],
        [3600, '1 h'],
        [7800, '2 h 10 min'],
        [3601, '1 h'],
        [86400, '1 d'],
        [273600, '3 d 4 h'],
        [-30, '30 s'],
    ];
    for (const [value, text] of cases) assert.equal(duration(value), text, String(value));
    assert.equal(duration(null), '–');
    assert.equal(duration(Infinity), '–');
});

test('relative times', () => {
    assert.equal(relative(at, at + 400), 'now');
    assert.equal(relative(at, at + 59_000), '59 s ago');
    assert.equal(relative(at, at - 125_000), 'in 2 min');
    assert.equal(relative(at, at + 7_300_000), '2 h ago');
    assert.equal(relative(at, at + 86_400_000 * 1000), '1,000 d ago');
});

test('timestamps of PostgreSQL', () => {
    assert.equal(parseTime('2026-08-04T13:05:09.042+00:00'), at);
    assert.equal(parseTime('2026-08-04T15:05:09.042000+02:00'), at);
    assert.equal(parseTime('infinity'), Infinity);
    assert.equal(parseTime('-infinity'), -Infinity);
    assert.equal(parseTime(null), undefined);
    assert.equal(parseTime('soon'), undefined);
});

test('times in a zone', () => {
    assert.equal(dateTime(at, 'UTC'), '2026-08-04 13:05:09');
    assert.equal(dateTime(at, 'Europe/Berlin'), '2026-08-04 15:05:09');
    assert.equal(dateTime(Date.UTC(2026, 0, 1, 0, 0), 'UTC', false), '2026-01-01 00:00');
    assert.equal(dueTime(at, 'Asia/Tokyo'), 'Tue 2026-08-04 22:05');
    assert.equal(dateTime(Infinity), 'never (infinity)');
    assert.equal(dateTime(at, 'No/Such_Zone'), '2026-08-04 13:05:09 UTC', 'zones that only PostgreSQL knows');
});

test('inputs of local time go there and back', () => {
    assert.equal(toLocalInput(at, true), '2026-08-04T13:05:09');
    assert.equal(fromLocalInput('2026-08-04T13:05', true), '2026-08-04T13:05:00.000Z');
    assert.equal(parseTime(fromLocalInput(toLocalInput(at, false), false)), at - 42);
    assert.equal(fromLocalInput('', false), undefined);
    assert.equal(fromLocalInput('nonsense', false), undefined);
});

test('small things', () => {
    assert.equal(bytes(512), '512 B');
    assert.equal(bytes(2048), '2 kB');
    assert.equal(bytes(123456), '123 kB');
    assert.equal(bytes(2_500_000), '2.5 MB');
    assert.equal(percent(0.999), '99 %');
    assert.equal(percent(1.5), '100 %');
    assert.deepEqual(splitWhy('queue_full: queue "a: b" runs 2 jobs'), {
        code: 'queue_full',
        text: 'queue "a: b" runs 2 jobs',
    });
    assert.deepEqual(splitWhy('it runs'), { code: '', text: 'it runs' });
    assert.equal(conditionName('23505'), 'unique violation');
    assert.equal(conditionName(null), '');
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isRawNumber, jsonProblem, parseJson, raw, stringify, toBody } from '../src/json';

test('numbers that a double cannot hold stay as they are', () => {
    const text =
        '{"id":9007199254740993,"big":123456789012345678901234567890,"small":1e-400,"pi":3.14159265358979323846,"n":-9223372036854775808}';
    assert.equal(stringify(parseJson(text)), text);
});

test('numbers that a double holds are numbers', () => {
    const value = parseJson(
        '{"id": "9007199254740993", "timeout": 3600.000000, "a": 0.1, "b": 12, "c": 123456789012345, "d": 0.30000000000000004}',
    ) as Record<string, never>;
    assert.deepEqual(value, {
        id: '9007199254740993',
        timeout: 3600,
        a: 0.1,
        b: 12,
        c: 123456789012345,
        d: 0.30000000000000004,
    });
    assert.ok(isRawNumber((parseJson('[1234567890123456789]') as never[])[0]!));
});

test('everything else of JSON survives the reader that keeps numbers', () => {
    const text =
        '{"a":[],"b":{},"c":"\\"\\\\ \\u00e4 \\ud83d\\ude00 }],","d":[true,false,null,-0.5,1e5,[[{"x":"9999999999999999999"}]]],"":" ","__proto__":{"x":1},"z":9999999999999999999}';
    assert.equal(
        stringify(parseJson(text)),
        '{"a":[],"b":{},"c":"\\"\\\\ ä 😀 }],","d":[true,false,null,-0.5,1e5,[[{"x":"9999999999999999999"}]]],"":" ","__proto__":{"x":1},"z":9999999999999999999}',
    );
    assert.equal(stringify(parseJson(' [ 1 , 9999999999999999999 ] \n')), '[1,9999999999999999999]');
    assert.throws(() => parseJson('{"a": 9999999999999999999,}'), SyntaxError);
});

test('indentation', () => {
    assert.equal(
        stringify(parseJson('{"a":[1,{"b":[]}],"c":{}}'), 2),
        '{\n  "a": [\n    1,\n    {\n      "b": []\n    }\n  ],\n  "c": {}\n}',
    );
});

test('what is wrong with JSON', () => {
    assert.equal(jsonProblem('{"a": 1}'), undefined);
    assert.match(jsonProblem('  ')!, /Enter JSON/);
    assert.match(jsonProblem('{\n  "a": 1,\n}')!, /not valid JSON/);
});

test('a body holds JSON as it was typed', () => {
    assert.equal(
        toBody({
            payload: raw('{"id": 9007199254740993}'),
            queue_name: undefined,
            run_at: null,
            ids: ['1'],
            filter: { payload: raw('[1]') },
        }),
        '{"payload":{"id": 9007199254740993},"run_at":null,"ids":["1"],"filter":{"payload":[1]}}',
    );
});

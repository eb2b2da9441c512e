// JSON without loss. JSON.parse() rounds numbers that a double cannot hold, and a payload that is shown and saved again
// would then be another one. parseJson() keeps such numbers as their text; stringify() writes them as they came.
import type { Json, RawNumber } from './types';

export function isRawNumber(value: Json): value is RawNumber {
    return value instanceof Raw;
}

class Raw implements RawNumber {
    constructor(readonly raw: string) {}
}

/** Any text that JSON.parse() might change has a number of this length somewhere, or an exponent. */
const suspicious = /\d[\d.]{14}|\d[eE]/;

export function parseJson(text: string): Json {
    const value = JSON.parse(text) as Json; // raises SyntaxError for what is not JSON
    return suspicious.test(text) ? new Reader(text).read() : value;
}

/** Reads a text that is known to be JSON. */
class Reader {
    private at = 0;
    constructor(private readonly text: string) {}

    read(): Json {
        this.skipSpace();
        const first = this.text[this.at]!;
        if (first === '{') return this.readObject();
        if (first === '[') return this.readArray();
        if (first === '"') return this.readString();
        return this.readWord();
    }

    private skipSpace() {
        while (/\s/.test(this.text[this.at] ?? '')) this.at++;
    }

    /** Steps over the next character, which must be one of these two; tells whether it is the first. */
    private next(wanted: string): boolean {
        this.skipSpace();
        return this.text[this.at++] === wanted;
    }

    private readObject(): Json {
        const result: { [key: string]: Json } = {};
        this.at++;
        this.skipSpace();
        if (this.text[this.at] === '}') return (this.at++, result);
        do {
            this.skipSpace();
            const key = this.readString();
            this.next(':');
            Object.defineProperty(result, key, {
                value: this.read(),
                enumerable: true,
                writable: true,
                configurable: true,
            });
        } while (this.next(','));
        return result;
    }

    private readArray(): Json {
        const result: Json[] = [];
        this.at++;
        this.skipSpace();
        if (this.text[this.at] === ']') return (this.at++, result);
        do result.push(this.read());
        while (this.next(','));
        return result;
    }

    private readString(): string {
        const start = this.at++;
        while (this.text[this.at] !== '"') this.at += this.text[this.at] === '\\' ? 2 : 1;
        return JSON.parse(this.text.slice(start, ++this.at)) as string;
    }

    private readWord(): Json {
        const start = this.at;
        while (/[-+.\w]/.test(this.text[this.at] ?? '')) this.at++;
        const word = this.text.slice(start, this.at);
        const value = JSON.parse(word) as Json;
        return typeof value === 'number' && !isExact(word, value) ? (new Raw(word) as Json) : value;
    }
}

/** A double holds fifteen digits. Zeros at the end of a fraction do not count: 3600.000000 is 3600. */
function isExact(word: string, value: number): boolean {
    if (String(value) === word) return true;
    const digits = word.includes('.') ? word.replace(/0+$/, '') : word;
    return !/e/i.test(word) && digits.replace(/^-?[0.]*|\./g, '').length <= 15;
}

/** As JSON.stringify(), with indentation if that is given. */
export function stringify(value: Json, indent = 0, level = 0): string {
    if (isRawNumber(value)) return value.raw;
    if (value === null || typeof value !== 'object') return JSON.stringify(value) ?? 'null';
    const isArray = Array.isArray(value);
    const parts = isArray
        ? value.map((each) => stringify(each, indent, level + 1))
        : Object.entries(value).map(
              ([key, each]) => `${JSON.stringify(key)}:${indent ? ' ' : ''}${stringify(each, indent, level + 1)}`,
          );
    const [open, close] = isArray ? '[]' : '{}';
    if (!parts.length) return `${open}${close}`;
    if (!indent) return `${open}${parts.join(',')}${close}`;
    const gap = '\n' + ' '.repeat(indent * (level + 1));
    return `${open}${gap}${parts.join(`,${gap}`)}\n${' '.repeat(indent * level)}${close}`;
}

/** What is wrong with a text that should be JSON, or nothing. */
export function jsonProblem(text: string): string | undefined {
    if (!text.trim()) return 'Enter JSON, {} for an empty payload.';
    try {
        JSON.parse(text);
        return undefined;
    } catch (error) {
        const at = /position (\d+)/.exec(String(error));
        if (!at) return 'This is not valid JSON.';
        const before = text.slice(0, Number(at[1])).split('\n');
        return `This is not valid JSON: look at line ${before.length}, column ${before.at(-1)!.length + 1}.`;
    }
}

/** JSON that goes into a body as it is. */
export class RawJson {
    constructor(readonly text: string) {}
}
export const raw = (text: string) => new RawJson(text);

/** As JSON.stringify(), with RawJson; fields that are undefined are left out. */
export function toBody(value: unknown): string {
    if (value instanceof RawJson) return value.text;
    if (Array.isArray(value)) return `[${value.map(toBody).join(',')}]`;
    if (value && typeof value === 'object')
        return `{${Object.entries(value as Record<string, unknown>)
            .filter(([, each]) => each !== undefined)
            .map(([key, each]) => `${JSON.stringify(key)}:${toBody(each)}`)
            .join(',')}}`;
    return JSON.stringify(value);
}

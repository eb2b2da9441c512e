// The arithmetic of line charts. Pure functions; tested in test/plot.test.ts.

const decimal = [1, 2, 5, 10];
const seconds = [60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400];

/** A step of round numbers, so that about so many of them reach the maximum. Durations have their own above a minute. */
function roundStep(max: number, wanted: number, isDuration: boolean): number {
    const rough = max / wanted;
    if (isDuration && rough > 20) {
        const step = seconds.find((each) => each >= rough);
        if (step) return step;
    }
    const power = 10 ** Math.floor(Math.log10(rough));
    return power * decimal.find((each) => each * power >= rough * 0.999)!;
}

/** Where lines of the grid are, from 0 on; the last one is the top of the chart. */
export function valueTicks(max: number, wanted = 3, isDuration = false): number[] {
    const step = roundStep(max > 0 ? max : 1, wanted, isDuration);
    const ticks = [0];
    while (ticks.at(-1)! < max || ticks.length < 2) ticks.push(Number((ticks.length * step).toPrecision(12)));
    return ticks;
}

/** Full minutes or more between two times, in seconds; at most so many. */
export function timeTicks(from: number, to: number, most: number): number[] {
    const step = [30, ...seconds].find((each) => (to - from) / each <= most) ?? 86400;
    const ticks: number[] = [];
    for (let at = Math.ceil(from / step) * step; at <= to; at += step) ticks.push(at);
    return ticks;
}

type Point = readonly [number, number];

/** Lines through the points that have a value, one for each stretch without a gap. Where many points share a column of
 * pixels, its lowest and its highest are drawn: no peak gets lost. */
export function stretches(times: readonly (number | null)[], values: readonly (number | null)[], start: number, x: (time: number) => number, y: (value: number) => number): Point[][] {
    const lines: Point[][] = [];
    let line: Point[] | undefined;
    let column: { x: number; low: number; high: number; last: number } | undefined;
    const flush = () => {
        if (!column) return;
        line!.push([column.x, column.high]);
        if (column.low !== column.high) line!.push([column.x, column.low]);
        if (column.last !== column.low && column.last !== column.high) line!.push([column.x, column.last]);
        column = undefined;
    };
    for (let i = start; i < times.length; i++) {
        const value = values[i];
        if (value == null) {
            flush();
            line = undefined;
            continue;
        }
        if (!line) lines.push((line = []));
        const px = Math.round(x(times[i]!));
        const py = Math.round(y(value) * 10) / 10;
        if (column && column.x !== px) flush();
        column = column ? { x: px, low: Math.max(column.low, py), high: Math.min(column.high, py), last: py } : { x: px, low: py, high: py, last: py };
    }
    flush();
    return lines;
}

export function linePath(lines: Point[][]): string {
    // A single point is drawn as a dot, by a line to itself.
    return lines.map((line) => `M${(line.length > 1 ? line : [...line, ...line]).map((point) => point.join(' ')).join('L')}`).join('');
}

export function areaPath(lines: Point[][], bottom: number): string {
    return lines.map((line) => `M${line[0]![0]} ${bottom}L${line.map((point) => point.join(' ')).join('L')}L${line.at(-1)![0]} ${bottom}Z`).join('');
}

/** The index of the time that is nearest, in an ascending list from start on; -1 if there is none. */
export function nearest(times: readonly (number | null)[], wanted: number, start = 0): number {
    let low = start;
    let high = times.length - 1;
    if (high < low) return -1;
    while (low < high) {
        const middle = (low + high) >> 1;
        if (times[middle]! < wanted) low = middle + 1;
        else high = middle;
    }
    return low > start && wanted - times[low - 1]! < times[low]! - wanted ? low - 1 : low;
}

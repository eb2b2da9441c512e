// The arithmetic of line charts. Pure functions; tested in test/plot.test.ts.

const decimal = [1, 2, 5, 10];
const seconds = [60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400];

/** A step of round numbers, so that about as many as wanted reach the maximum. Durations have their own above a minute. */
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
    while (ticks.at(-1)! < (max > 0 ? max : 1)) ticks.push(Number((ticks.length * step).toPrecision(12)));
    return ticks;
}

/** Full minutes or more between two times, in seconds; at most as many as given. */
export function timeTicks(from: number, to: number, most: number): number[] {
    const step = [30, ...seconds].find((each) => (to - from) / each <= most) ?? 86400;
    const ticks: number[] = [];
    for (let at = Math.ceil(from / step) * step; at <= to; at += step) ticks.push(at);
    return ticks;
}

/** A column of pixels: the mean of its values is drawn as a line, their range as a band, so that no peak gets lost. */
interface Column {
    x: number;
    low: number;
    high: number;
    sum: number;
    n: number;
}

const columnWidth = 2;

/** The columns of the points that have a value, one list for each stretch without a gap. */
export function stretches(
    times: readonly (number | null)[],
    values: readonly (number | null)[],
    start: number,
    x: (time: number) => number,
): Column[][] {
    const lines: Column[][] = [];
    let line: Column[] | undefined;
    let column: Column | undefined;
    for (let i = start; i < times.length; i++) {
        const value = values[i];
        if (value == null) {
            line = column = undefined;
            continue;
        }
        const at = Math.round(x(times[i]!) / columnWidth) * columnWidth;
        if (!line) lines.push((line = []));
        if (column?.x !== at) line.push((column = { x: at, low: value, high: value, sum: 0, n: 0 }));
        column.low = Math.min(column.low, value);
        column.high = Math.max(column.high, value);
        column.sum += value;
        column.n++;
    }
    return lines;
}

type Scale = (value: number) => number;

function through(columns: Column[], y: (column: Column) => number): string {
    return columns.map((column) => `${column.x} ${Math.round(y(column) * 10) / 10}`).join('L');
}

export function linePath(lines: Column[][], y: Scale): string {
    // A single point is drawn as a dot, by a line to itself.
    return lines
        .map((line) => `M${through(line.length > 1 ? line : [...line, ...line], (column) => y(column.sum / column.n))}`)
        .join('');
}

/** From the lowest to the highest values. */
export function bandPath(lines: Column[][], y: Scale): string {
    return lines
        .map(
            (line) =>
                `M${through(line, (column) => y(column.high))}L${through([...line].reverse(), (column) => y(column.low))}Z`,
        )
        .join('');
}

/** From the bottom to the line. */
export function areaPath(lines: Column[][], y: Scale): string {
    return lines
        .map(
            (line) =>
                `M${line[0]!.x} ${y(0)}L${through(line, (column) => y(column.sum / column.n))}L${line.at(-1)!.x} ${y(0)}Z`,
        )
        .join('');
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

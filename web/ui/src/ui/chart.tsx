// Lines over time, as SVG: the style sheet colours them, so they follow the theme. All charts share one cursor.
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { signal } from '@preact/signals';
import { compact, dateTime } from '../format';
import { areaPath, bandPath, linePath, nearest, stretches, timeTicks, valueTicks } from '../plot';
import { chartRange, timeZone } from '../prefs';
import { points, pointsVersion } from '../stream';

export interface Line {
    name: string;
    /** Which column of the points (stream.ts). */
    column: number;
    color: 1 | 2 | 3 | 4;
    dashed?: boolean;
    area?: boolean;
}

interface Props {
    title: string;
    lines: Line[];
    format?: (value: number) => string;
    isDuration?: boolean;
    id: string;
}

const height = 140;
const margin = { left: 44, right: 8, top: 8, bottom: 20 };

/** The time below the pointer, in seconds. All charts show it. */
const cursor = signal<number | undefined>(undefined);

function useWidth() {
    const box = useRef<HTMLDivElement>(null);
    const [width, setWidth] = useState(0);
    useEffect(() => {
        const observer = new ResizeObserver(() => setWidth(box.current?.clientWidth ?? 0));
        observer.observe(box.current!);
        return () => observer.disconnect();
    }, []);
    return { box, width };
}

export function Chart({ title, lines, format = compact, isDuration, id }: Props) {
    const { box, width } = useWidth();
    const clip = useId();
    void pointsVersion.value;
    const times = points[0] as number[];
    const to = times.at(-1) ?? Math.floor(Date.now() / 1000);
    const from = to - Number(chartRange.value) * 60;
    const start = times.length ? nearest(times, from) : 0;
    let max = 0;
    for (const { column } of lines)
        for (let i = start; i < times.length; i++) max = Math.max(max, points[column]![i] ?? 0);
    const ticks = valueTicks(max * 1.02, 3, isDuration);
    const right = Math.max(width - margin.right, margin.left + 10);
    const bottom = height - margin.bottom;
    const x = (time: number) => margin.left + ((time - from) / (to - from)) * (right - margin.left);
    const y = (value: number) => bottom - (value / ticks.at(-1)!) * (bottom - margin.top);

    const pointed = cursor.value === undefined || !times.length ? -1 : nearest(times, cursor.value, start);
    const at = pointed >= 0 ? pointed : times.length - 1;
    const values = lines.map(({ column }) => points[column]![at]).map((value) => (value == null ? '–' : format(value)));
    const onMove = (event: PointerEvent) => {
        const px = event.clientX - box.current!.getBoundingClientRect().left;
        cursor.value = from + ((px - margin.left) / (right - margin.left)) * (to - from);
    };

    return (
        <figure class="chart" data-testid={id}>
            <figcaption>
                <span class="chart-title">{title}</span>
                {lines.map((line, i) => (
                    <span key={line.name} class="chart-key">
                        <svg class="chart-sample" viewBox="0 0 16 4" aria-hidden="true">
                            <path class={`line line-${line.color} ${line.dashed ? 'line-dashed' : ''}`} d="M0 2h16" />
                        </svg>
                        {line.name} <b class="num">{values[i]}</b>
                    </span>
                ))}
                {pointed >= 0 && <span class="chart-at">at {dateTime(times[at]! * 1000, timeZone()).slice(11)}</span>}
            </figcaption>
            <div
                class="chart-box"
                ref={box}
                role="img"
                aria-label={`${title} over the last ${chartRange.value} minutes; now: ${lines.map((line, i) => `${line.name} ${values[i]}`).join(', ')}`}
                onPointerMove={onMove}
                onPointerLeave={() => (cursor.value = undefined)}
            >
                {width > 0 && (
                    <svg width={width} height={height} aria-hidden="true">
                        <clipPath id={clip}>
                            <rect x={margin.left} y="0" width={right - margin.left} height={height} />
                        </clipPath>
                        {ticks.map((tick) => (
                            <g key={tick}>
                                <path class="grid" d={`M${margin.left} ${Math.round(y(tick)) + 0.5}H${right}`} />
                                <text class="tick" x={margin.left - 6} y={y(tick) + 3.5} text-anchor="end">
                                    {format(tick)}
                                </text>
                            </g>
                        ))}
                        {timeTicks(from, to, Math.floor(width / 80)).map((tick) => (
                            <text
                                key={tick}
                                class="tick"
                                x={Math.min(Math.max(x(tick), margin.left + 14), right - 14)}
                                y={height - 5}
                                text-anchor="middle"
                            >
                                {dateTime(tick * 1000, timeZone()).slice(11, 16)}
                            </text>
                        ))}
                        <g clip-path={`url(#${clip})`}>
                            {lines.map((line) => {
                                const parts = stretches(times, points[line.column]!, start, x);
                                return (
                                    <g key={line.name}>
                                        {line.area && <path class={`area area-${line.color}`} d={areaPath(parts, y)} />}
                                        <path class={`band area-${line.color}`} d={bandPath(parts, y)} />
                                        <path
                                            class={`line line-${line.color} ${line.dashed ? 'line-dashed' : ''}`}
                                            d={linePath(parts, y)}
                                        />
                                    </g>
                                );
                            })}
                            {pointed >= 0 && (
                                <>
                                    <path class="cursor" d={`M${x(times[at]!)} ${margin.top}V${bottom}`} />
                                    {lines.map(({ name, column, color }) => {
                                        const value = points[column]![at];
                                        return (
                                            value != null && (
                                                <circle
                                                    key={name}
                                                    class={`dot dot-${color}`}
                                                    cx={x(times[at]!)}
                                                    cy={y(value)}
                                                    r="3"
                                                />
                                            )
                                        );
                                    })}
                                </>
                            )}
                        </g>
                    </svg>
                )}
                {!times.length && <span class="chart-wait">Waiting for the first figures …</span>}
            </div>
        </figure>
    );
}

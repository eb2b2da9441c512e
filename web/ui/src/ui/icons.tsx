// Icons: strokes on a square of 16. Beside a text they are decoration; alone they need a label on what holds them.
const shapes = {
    pulse: 'M1.5 8.5h3l2-5 3 9 2-4h3',
    list: 'M5.5 4h8M5.5 8h8M5.5 12h8M2.5 4h.01M2.5 8h.01M2.5 12h.01',
    layers: 'M8 2 14 5 8 8 2 5zM2.5 8.2 8 11l5.5-2.8M2.5 11.2 8 14l5.5-2.8',
    dead: 'M2.5 3.5h11v9h-11zM2.5 4l5.5 4.5L13.5 4M10 11l3 3M13 11l-3 3',
    clock: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 5v3.2l2.2 1.6',
    chip: 'M4.5 4.5h7v7h-7zM6 2v2M10 2v2M6 12v2M10 12v2M2 6h2M2 10h2M12 6h2M12 10h2',
    box: 'M2.5 5 8 2.2 13.5 5v6L8 13.8 2.5 11zM2.5 5 8 7.8 13.5 5M8 7.8v6',
    past: 'M2.5 8A5.5 5.5 0 1 0 4.2 4L2.5 5.6M2.5 2.6v3h3M8 5.2V8l2 1.4',
    pen: 'M3 13l.6-2.8L10.8 3a1.4 1.4 0 0 1 2 2L5.7 12.3zM9.5 4.4l2 2M9 13.5h4.5',
    search: 'M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM10.3 10.3 13.8 13.8',
    menu: 'M2.5 4.5h11M2.5 8h11M2.5 11.5h11',
    close: 'M4 4l8 8M12 4l-8 8',
    check: 'M3 8.5 6.5 12 13 4.5',
    copy: 'M5.5 5.5h8v8h-8zM3.5 10.5h-1v-8h8v1',
    pause: 'M5.5 3.5v9M10.5 3.5v9',
    play: 'M5 3.2v9.6L12.5 8z',
    plus: 'M8 3v10M3 8h10',
    sun: 'M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6zM8 1.5v1.3M8 13.2v1.3M1.5 8h1.3M13.2 8h1.3M3.4 3.4l.9.9M11.7 11.7l.9.9M12.6 3.4l-.9.9M4.3 11.7l-.9.9',
    moon: 'M13 9.5A5.5 5.5 0 0 1 6.5 3 5.5 5.5 0 1 0 13 9.5z',
    auto: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 2v12M8 5h4.8M8 8h6M8 11h4.8',
    down: 'M4 6l4 4 4-4',
    right: 'M6 4l4 4-4 4',
    left: 'M10 4 6 8l4 4',
    first: 'M12 4 8 8l4 4M4.5 4v8',
    refresh: 'M13.5 8a5.5 5.5 0 1 1-1.7-4L13.5 5.6M13.5 2.6v3h-3',
    trash: 'M3 4.5h10M6.5 4.5v-2h3v2M4.3 4.5l.6 9h6.2l.6-9M6.8 7v4M9.2 7v4',
    user: 'M8 2.5a2.7 2.7 0 1 0 0 5.4 2.7 2.7 0 0 0 0-5.4zM2.8 13.5c.6-2.6 2.6-4 5.2-4s4.6 1.4 5.2 4',
    warning: 'M8 2.2 14.5 13.5h-13zM8 6.5v3.2M8 11.6v.01',
    critical: 'M5.4 2h5.2L14 5.4v5.2L10.6 14H5.4L2 10.6V5.4zM8 5v3.6M8 11v.01',
    ok: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM5.3 8.2l2 2 3.5-4',
    info: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 7.5v3.5M8 5v.01',
    ready: 'M8 3.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9z',
    leased: 'M2.5 6h9M9 3.5 11.5 6 9 8.5M13.5 10.5h-9M7 8l-2.5 2.5L7 13',
    cross: 'M3 3h10v10H3zM5.8 5.8l4.4 4.4M10.2 5.8l-4.4 4.4',
    slash: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM3.8 12.2l8.4-8.4',
    minus: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM5.3 8h5.4',
    skip: 'M3 4l4 4-4 4M8.5 4l4 4-4 4',
    again: 'M3 6h7.5a3 3 0 0 1 0 6H6M5.5 3.5 3 6l2.5 2.5',
    out: 'M6.5 2.5h-4v11h4M10.5 5l3 3-3 3M13.5 8h-7',
    lock: 'M3.5 7h9v6.5h-9zM5.5 7V5a2.5 2.5 0 0 1 5 0v2',
    key: 'M5.5 6.5a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6zM7.6 7.4 13 2.5M11 4.3l1.8 1.8',
    database:
        'M8 2c3 0 5.5.8 5.5 2S11 6 8 6 2.5 5.2 2.5 4 5 2 8 2zM2.5 4v8c0 1.2 2.5 2 5.5 2s5.5-.8 5.5-2V4M2.5 8c0 1.2 2.5 2 5.5 2s5.5-.8 5.5-2',
} as const;

export type IconName = keyof typeof shapes;

export function Icon({
    name,
    filled = false,
    class: extra = '',
}: {
    name: IconName;
    filled?: boolean;
    class?: string;
}) {
    return (
        <svg
            class={`icon ${filled ? 'icon-filled' : ''} ${extra}`}
            viewBox="0 0 16 16"
            aria-hidden="true"
            focusable="false"
        >
            <path d={shapes[name]} />
        </svg>
    );
}

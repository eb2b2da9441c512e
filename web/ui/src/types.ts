// What the API returns, as far as the page uses it. Ids and other numbers of 64 bits are strings.

/** Any value that JSON can hold; numbers that JavaScript would change are kept as their text (json.ts). */
export type Json = null | boolean | number | string | RawNumber | Json[] | { [key: string]: Json };
export interface RawNumber {
    readonly raw: string;
}

/** A count that is not counted to its end says that it is capped. */
export interface Count {
    count: number;
    capped: boolean;
}

export interface JobError {
    sqlstate?: string | null;
    message?: string | null;
    detail?: string | null;
    hint?: string | null;
    context?: string | null;
}

export type JobState = 'scheduled' | 'ready' | 'running' | 'leased' | 'dead' | 'ended';

export interface Job {
    id: string;
    task_identifier: string;
    payload: Json;
    payload_size?: number;
    queue_name: string | null;
    priority: number;
    priority_band: string;
    run_at: string;
    attempts: number;
    max_attempts: number;
    job_key: string | null;
    retry_policy: string;
    state: JobState;
    last_error: JobError | null;
    worker: string | null;
    lease_expires_at: string | null;
    timeout: number | null;
    created_at: string;
    progress: number | null;
    progress_message: string | null;
    flags: Json;
    headers: Json;
}

export interface TimelineEvent {
    at: string | null;
    event: 'created' | 'attempt_failed' | 'started' | 'ended' | 'dead' | 'requeued' | 'next_run';
    attempt: number | null;
    worker: string | null;
    error: JobError | null;
    outcome: string | null;
}

export interface JobDetails {
    state: JobState;
    job: Job | null;
    why: string | null;
    letter: Letter | null;
    history: Ended | null;
    timeline: TimelineEvent[];
}

export interface Letter {
    id: string;
    original_job_id: string;
    task_identifier: string;
    payload: Json;
    payload_size?: number;
    queue_name: string | null;
    priority: number;
    job_key: string | null;
    max_attempts: number;
    failure_reason: string | null;
    failure_count: number;
    last_error: JobError | null;
    original_created_at: string | null;
    original_run_at: string | null;
    failed_at: string;
    requeued_count: number;
    last_requeued_at: string | null;
    notes: string | null;
    headers: Json;
    waiting: boolean;
}

export interface LetterGroup {
    task_identifier: string;
    sqlstate: string | null;
    letters: Count;
    oldest: string;
    newest: string;
    sample: string | null;
}

export interface Ended {
    id: string;
    task_identifier: string;
    queue_name: string | null;
    priority: number;
    job_key: string | null;
    outcome: string;
    attempts: number;
    max_attempts: number;
    created_at: string;
    started_at: string | null;
    finished_at: string;
    worker: string | null;
    result: Json;
    error: JobError | null;
    keep_until: string | null;
    headers: Json;
}

export interface Queue {
    queue_name: string;
    concurrency: number | null;
    rate_limit: number | null;
    rate_period: number | null;
    max_depth: number | null;
    paused: boolean;
    automatic: boolean;
    ready: Count;
    scheduled: Count;
    running: number;
    leased: number;
    oldest_ready_at: string | null;
}

export interface Task {
    task_identifier: string;
    kind: 'function' | 'procedure' | 'external' | 'unregistered';
    handler: string | null;
    handler_exists: boolean | null;
    run_as: string | null;
    queue_name: string | null;
    priority: number | null;
    max_attempts: number | null;
    retry_policy: string | null;
    timeout: number | null;
    notify_channel: string | null;
    registered_at: string | null;
    keep_history: number | null;
    jobs: Count;
    dead: Count;
    problem: string | null;
}

export interface Schedule {
    name: string;
    cron: string;
    time_zone: string;
    task_identifier: string;
    payload: Json;
    queue_name: string | null;
    priority: number | null;
    max_attempts: number | null;
    job_key: string | null;
    job_key_mode: string | null;
    retry_policy: string | null;
    timeout: number | null;
    fill: number | null;
    max_catchup: number | null;
    catchup: string | null;
    next_run_at: string | null;
    last_run_at: string | null;
    last_error: string | null;
    scheduled_by: string | null;
    next_runs: string[];
}

export interface Worker {
    pid: number;
    kind: string;
    role: string | null;
    state: string;
    job_id: string | null;
    task_identifier: string | null;
    attempt: number | null;
    state_since: string | null;
    started_at: string | null;
    jobs_done: string | number;
    jobs_failed: string | number;
    progress: number | null;
    progress_message: string | null;
}

export interface AuditEntry {
    id: string;
    at: string;
    actor: string;
    role: string | null;
    application_name: string | null;
    client_addr: string | null;
    action: string;
    kind: string | null;
    objects: string[] | null;
    count: number | null;
    before: Json;
    after: Json;
}

export interface Overview {
    at: string;
    database: string;
    version: string;
    server_version: string;
    in_recovery: boolean;
    jobs: { ready: Count; scheduled: Count; running: number; leased: number; dead: Count; estimated?: number | null };
    bands: { band: string; ready: Count }[];
    queues: { queue_name: string; ready: Count; running: number; paused: boolean; concurrency: number | null }[];
    oldest_ready_at: string | null;
    dead_today: Count;
    counters: Record<'enqueued' | 'completed' | 'failed' | 'retried' | 'dead', string>;
    workers: Worker[];
}

export interface Sample extends Overview {
    /** Of the last second; null in the first sample. */
    rates: { enqueued: number | null; completed: number | null; failed: number | null } | null;
    wait_p95: number | null;
    run_p95: number | null;
}

export type HealthStatus = 'ok' | 'warning' | 'critical';
export interface Health {
    status: HealthStatus;
    checks: { check: string; status: HealthStatus; detail: string | null; hint: string | null }[];
}

export interface Session {
    user: string;
    role: string;
    database: string;
    databases: string[];
    read_only: boolean;
    proxy_login: boolean;
    rights: Record<string, boolean>;
    versions: { web: string; extension: string | null; server: string };
    idle_timeout: number;
}

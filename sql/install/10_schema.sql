-- The schema is created here, not by the control file: a schema that another
-- role made beforehand would otherwise be adopted and stay that role's.
CREATE SCHEMA backfill;
COMMENT ON SCHEMA backfill IS 'Job queue: enqueue(), register_task(), views jobs, queues, workers, tasks, dlq.';

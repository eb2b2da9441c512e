-- Queues: limits, pause and resume.

CREATE FUNCTION backfill.set_queue(
    queue_name text,
    concurrency integer DEFAULT NULL,
    rate_limit integer DEFAULT NULL,
    rate_period interval DEFAULT '1 second',
    max_depth integer DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_set_queue';
COMMENT ON FUNCTION backfill.set_queue(text, integer, integer, interval, integer) IS
    'Set all limits of a queue: jobs that run at once, that start per period, that wait or run in all. NULL: no limit (queues fast and bulk: the setting).';

CREATE FUNCTION backfill.pause_queue(queue_name text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_pause_queue';
COMMENT ON FUNCTION backfill.pause_queue(text) IS 'Start no more jobs of a queue; running jobs finish, and jobs can be enqueued.';

CREATE FUNCTION backfill.resume_queue(queue_name text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_resume_queue';
COMMENT ON FUNCTION backfill.resume_queue(text) IS 'Run the jobs of a paused queue again.';

CREATE FUNCTION backfill.delete_queue(queue_name text)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_delete_queue';
COMMENT ON FUNCTION backfill.delete_queue(text) IS
    'Forget the limits of a queue that has no jobs; false if it has none. Its name can be used again, without limits.';

-- Jobs that run when a limit is lowered or set keep their places beyond it. Whatever sets limits,
-- the row remembers where those may be.
CREATE FUNCTION backfill._limits_changed()
RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.places := coalesce(NEW.concurrency, 0);
        NEW.was_unlimited := true;
        NEW.rated_since := CASE WHEN NEW.rate_limit IS NOT NULL THEN pg_catalog.clock_timestamp() END;
    ELSE
        NEW.places := greatest(OLD.places, OLD.concurrency, NEW.concurrency);
        NEW.was_unlimited := OLD.was_unlimited OR OLD.concurrency IS NULL OR NEW.concurrency IS NULL;
        NEW.rated_since := CASE WHEN NEW.rate_limit IS NULL THEN NULL
                                WHEN OLD.rate_limit IS NULL THEN pg_catalog.clock_timestamp()
                                ELSE OLD.rated_since END;
    END IF;
    RETURN NEW;
END;
$$;
COMMENT ON FUNCTION backfill._limits_changed() IS 'Notes in a queue''s row what may be left of its former limits.';

CREATE TRIGGER limits_changed BEFORE INSERT OR UPDATE OF concurrency, rate_limit ON backfill.queue
    FOR EACH ROW EXECUTE FUNCTION backfill._limits_changed();

-- Looking in: why a job does not run. It only looks.

CREATE FUNCTION backfill.why_not_running(job_id bigint)
RETURNS text LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_why_not_running';
COMMENT ON FUNCTION backfill.why_not_running(bigint) IS
    'Why a job does not run now, in one line: a code, a colon and the reason with its particulars. The guide to monitoring lists the codes.';

-- The tasks of the example consumers, and a table for their results. Run it once.

SELECT backfill.register_task('count_words', max_attempts => 5, retry_policy => 'fast');
SELECT backfill.register_task('shout', max_attempts => 5, retry_policy => 'fast');

CREATE SCHEMA examples;
CREATE TABLE examples.result (
    job_id bigint PRIMARY KEY,
    worker text NOT NULL,
    result text NOT NULL
);

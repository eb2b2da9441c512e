-- Every page into the queue, by role editor, in several transactions and in the wrong
-- order: the least urgent first. The priorities have to put that right.
-- Each statement returns: priority, function, number of jobs, what they are.

-- An array of job specifications, each with its own settings.
SELECT 'BULK_LOWEST', 'enqueue_jobs', count(*), 'release notes'
  FROM backfill.enqueue_jobs((
    SELECT jsonb_agg(jsonb_build_object('task_identifier', 'index_page', 'payload', jsonb_build_object('page', file),
                                        'priority', backfill.priority('BULK_LOWEST')) ORDER BY depth, file)
      FROM library.catalogue WHERE lane = 'lowest'));

-- One call, one job per payload.
SELECT 'BULK_LOW', 'enqueue_many', count(*), 'appendices and internals'
  FROM backfill.enqueue_many('index_page', (
    SELECT array_agg(jsonb_build_object('page', file) ORDER BY depth, file)
      FROM library.catalogue WHERE lane = 'low'), priority => backfill.priority('BULK_LOW'));

-- The bulk of it, one call per job. What is inside one transaction appears all at once.
BEGIN;
SELECT 'BULK_DEFAULT', 'enqueue_bulk_with_retries', count(backfill.enqueue_bulk_with_retries('index_page', payload)), 'programming interfaces'
  FROM (SELECT jsonb_build_object('page', file) AS payload
          FROM library.catalogue WHERE lane = 'bulk_with_retries' ORDER BY depth, file) c;
SELECT 'BULK_DEFAULT', 'enqueue_bulk', count(backfill.enqueue_bulk('index_page', payload)), 'all other pages'
  FROM (SELECT jsonb_build_object('page', file) AS payload
          FROM library.catalogue WHERE lane = 'bulk' ORDER BY depth, file) c;
COMMIT;

-- The SQL commands, behind the two lists of programs.
SELECT 'FAST_DEFAULT', 'enqueue_fast', count(backfill.enqueue_fast('index_page', payload)), 'SQL commands'
  FROM (SELECT jsonb_build_object('page', file) AS payload
          FROM library.catalogue WHERE lane = 'fast' ORDER BY depth, file) c;

-- The chapters: what is below them needs them. The programs are as urgent, although the
-- lists that they belong to are not. So they fail at first, because the page above is
-- missing, and succeed when they are tried again.
BEGIN;
SELECT 'FAST_HIGH', 'enqueue_critical', count(backfill.enqueue_critical('index_page', payload)), 'chapters'
  FROM (SELECT jsonb_build_object('page', file) AS payload
          FROM library.catalogue WHERE lane = 'critical' ORDER BY file <> 'sql-commands.html', file) c;
SELECT 'FAST_HIGH', 'enqueue_fast_with_retries', count(backfill.enqueue_fast_with_retries('index_page', payload)), 'client and server programs'
  FROM (SELECT jsonb_build_object('page', file) AS payload
          FROM library.catalogue WHERE lane = 'fast_with_retries' ORDER BY file) c;
COMMIT;

-- The longest page first, so that the others need not wait for it.
SELECT 'EMERGENCY', 'enqueue_emergency', count(backfill.enqueue_emergency('index_page', payload)), 'front page, index, parts of the book'
  FROM (SELECT jsonb_build_object('page', file) AS payload
          FROM library.catalogue WHERE lane = 'emergency' ORDER BY file <> 'bookindex.html', depth, file) c;

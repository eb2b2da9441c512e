-- The list of all pages and how urgent each is. Run by a superuser after schema.sql.
--
-- The manual is a tree: the front page, the parts of the book, chapters, pages. A page
-- names the one above it in its header ("Up").

CREATE TABLE library.catalogue (
    file text PRIMARY KEY,
    parent text,
    depth integer,
    part text,
    lane text
);

INSERT INTO library.catalogue (file, parent)
SELECT f.name, coalesce(substring(p.html FROM '<a accesskey="u" href="([^"]+)"'),
                        CASE WHEN f.name <> 'index.html' THEN 'index.html' END)
  FROM library.manual m,
       pg_ls_dir(m.dir) AS f(name),
       pg_read_file(m.dir || '/' || f.name) AS p(html)
 WHERE f.name LIKE '%.html';

-- How deep each page is in the tree, and the part of the book that it belongs to.
WITH RECURSIVE tree AS (
    SELECT c.file, 0 AS depth, c.file AS part FROM library.catalogue c WHERE c.parent IS NULL
    UNION ALL
    SELECT c.file, t.depth + 1, CASE t.depth WHEN 0 THEN c.file ELSE t.part END
      FROM library.catalogue c JOIN tree t ON t.file = c.parent
)
UPDATE library.catalogue c SET depth = t.depth, part = t.part FROM tree t WHERE t.file = c.file;

-- A lane is one way to enqueue; demo/enqueue.sql has them all.
UPDATE library.catalogue SET lane = CASE
    WHEN file = 'legalnotice.html' THEN 'late'
    WHEN depth <= 1 THEN 'emergency'
    WHEN file IN ('reference-client.html', 'reference-server.html') THEN 'fast'
    WHEN depth = 2 THEN 'critical'
    WHEN parent IN ('reference-client.html', 'reference-server.html') THEN 'fast_with_retries'
    WHEN parent = 'sql-commands.html' THEN 'fast'
    WHEN file LIKE 'release%' THEN 'lowest'
    WHEN part IN ('internals.html', 'appendixes.html') THEN 'low'
    WHEN part IN ('client-interfaces.html', 'server-programming.html') THEN 'bulk_with_retries'
    ELSE 'bulk' END;

-- The priority band that a lane belongs to. The figures on the screen use it.
CREATE FUNCTION library.lane_band(lane text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT CASE lane
           WHEN 'emergency' THEN 'emergency' WHEN 'late' THEN 'emergency'
           WHEN 'critical' THEN 'fast_high' WHEN 'fast_with_retries' THEN 'fast_high'
           WHEN 'fast' THEN 'fast_default'
           WHEN 'bulk' THEN 'bulk_default' WHEN 'bulk_with_retries' THEN 'bulk_default'
           WHEN 'low' THEN 'bulk_low'
           WHEN 'lowest' THEN 'bulk_lowest' END
$$;

CREATE TABLE library.band (
    position integer PRIMARY KEY,
    name text NOT NULL UNIQUE
);
INSERT INTO library.band VALUES (1, 'emergency'), (2, 'fast_high'), (3, 'fast_default'),
                                (4, 'bulk_default'), (5, 'bulk_low'), (6, 'bulk_lowest');

-- What the screen shows: one row per band, then a row with the sums.
CREATE FUNCTION library.progress(
    OUT band text, OUT pages bigint, OUT scheduled bigint, OUT ready bigint, OUT running bigint, OUT done bigint, OUT dead bigint)
RETURNS SETOF record LANGUAGE sql STABLE AS $$
    SELECT coalesce(b.name, 'all'), sum(c.n), coalesce(sum(j.scheduled), 0), coalesce(sum(j.ready), 0),
           coalesce(sum(j.running), 0), coalesce(sum(e.n), 0), coalesce(sum(d.n), 0)
      FROM library.band b
      LEFT JOIN (SELECT library.lane_band(lane) AS band, count(*) AS n FROM library.catalogue GROUP BY 1) c ON c.band = b.name
      LEFT JOIN (SELECT priority_band AS band,
                        count(*) FILTER (WHERE state = 'scheduled') AS scheduled,
                        count(*) FILTER (WHERE state = 'ready') AS ready,
                        count(*) FILTER (WHERE state = 'running') AS running
                   FROM backfill.jobs GROUP BY 1) j ON j.band = b.name
      LEFT JOIN (SELECT library.lane_band(lane) AS band, count(*) AS n
                   FROM library.effect JOIN library.catalogue USING (file) GROUP BY 1) e ON e.band = b.name
      LEFT JOIN (SELECT backfill.priority_band(priority) AS band, count(*) AS n
                   FROM backfill.dlq WHERE requeued_count = 0 GROUP BY 1) d ON d.band = b.name
     GROUP BY GROUPING SETS ((b.position, b.name), ())
     ORDER BY b.position NULLS LAST
$$;

GRANT USAGE ON SCHEMA library TO editor;
GRANT SELECT ON library.catalogue TO editor;

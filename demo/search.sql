-- The best three pages for the variable "query", and how many there are in all.
-- The variables mark_on and mark_off go around the words that were found.
SELECT found.title,
       array_to_string(found.breadcrumb[2:], ' / '),
       ts_headline('english', found.body, found.query,
                   format('MaxFragments=1, MinWords=9, MaxWords=15, StartSel="%s", StopSel="%s"', :'mark_on', :'mark_off')),
       found.total
  FROM (SELECT p.title, p.breadcrumb, p.body, q.query, count(*) OVER () AS total, ts_rank_cd(p.search, q.query) AS rank
          FROM library.page p, to_tsquery('english', :'query') AS q(query)
         WHERE p.search @@ q.query
         ORDER BY rank DESC, p.file
         LIMIT 3) found
 ORDER BY found.rank DESC;

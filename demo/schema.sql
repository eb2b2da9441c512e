-- What the demo's index consists of, and the function that indexes one page.
-- Run once by a superuser, with the variable manual_dir set to the folder of the pages.

CREATE EXTENSION backfill;

-- The jobs run as this role. It is no superuser; it may read the manual's files and
-- owns the tables of the index, and that is all. editor puts pages into the queue.
CREATE ROLE librarian LOGIN;
GRANT pg_read_server_files TO librarian;
GRANT EXECUTE ON FUNCTION pg_read_binary_file(text) TO librarian;
CREATE ROLE editor LOGIN;
SELECT backfill.grant_producer('editor', tasks => '{index_page}');

CREATE SCHEMA library AUTHORIZATION librarian;
SET ROLE librarian;

CREATE TABLE library.manual (
    dir text NOT NULL
);
INSERT INTO library.manual VALUES (:'manual_dir');

CREATE TABLE library.page (
    file text PRIMARY KEY,
    title text NOT NULL,
    breadcrumb text[] NOT NULL,
    body text NOT NULL,
    search tsvector NOT NULL
);
CREATE INDEX page_search_idx ON library.page USING gin (search);

-- One row for each time that a page was indexed to the end. It has no unique constraint
-- on purpose: if a job ran twice, or its work was kept although it failed, it shows here.
CREATE TABLE library.effect (
    file text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Counts every attempt, the failed ones too: sequences do not roll back.
CREATE SEQUENCE library.attempt_seq;

CREATE TABLE library.entity (
    name text PRIMARY KEY,
    character text NOT NULL
);
INSERT INTO library.entity VALUES
    ('lt', '<'), ('gt', '>'), ('quot', '"'), ('apos', ''''), ('nbsp', U&'\00A0'), ('copy', U&'\00A9'),
    ('ndash', U&'\2013'), ('mdash', U&'\2014'), ('lsquo', U&'\2018'), ('rsquo', U&'\2019'),
    ('ldquo', U&'\201C'), ('rdquo', U&'\201D'), ('hellip', U&'\2026');

-- Each entity is decoded once and only once: "&amp;lt;" means the text "&lt;". That is
-- why those that stand for "&" itself come last, all in one pass.
CREATE FUNCTION library.decode_entities(encoded text) RETURNS text
LANGUAGE plpgsql STABLE STRICT AS $$
DECLARE
    decoded text := encoded;
    entity record;
BEGIN
    IF strpos(encoded, '&') = 0 THEN
        RETURN encoded;
    END IF;
    FOR entity IN
        SELECT DISTINCT m[1] AS source,
               coalesce(e.character,
                        CASE WHEN m[2] ~* '^#x[0-9a-f]{1,6}$' THEN chr(('x' || lpad(substr(m[2], 3), 8, '0'))::bit(32)::int)
                             WHEN m[2] ~ '^#[0-9]{1,7}$' THEN chr(substr(m[2], 2)::int) END) AS character
          FROM regexp_matches(encoded, '(&(#?[0-9a-z]+);)', 'gi') AS m
          LEFT JOIN library.entity e ON e.name = m[2]
    LOOP
        IF entity.character <> '&' THEN
            decoded := replace(decoded, entity.source, entity.character);
        END IF;
    END LOOP;
    RETURN regexp_replace(decoded, '&(amp|#38|#x26);', '&', 'gi');
END;
$$;

-- The text of a page without its markup. Tags inside a line vanish; all others end a word.
CREATE FUNCTION library.plain_text(html text) RETURNS text
LANGUAGE plpgsql STABLE STRICT AS $$
DECLARE
    content text := html;
BEGIN
    content := regexp_replace(content, '<(a|abbr|acronym|b|code|em|i|q|s|span|strong|sub|sup|tt|u|var)(\s[^<>]*)?>', '', 'g');
    content := regexp_replace(content, '</(a|abbr|acronym|b|code|em|i|q|s|span|strong|sub|sup|tt|u|var)>', '', 'g');
    content := regexp_replace(content, '<[^<>]*>', ' ', 'g');
    content := library.decode_entities(content);
    RETURN btrim(regexp_replace(content, '[\s\u00A0]+', ' ', 'g'));
END;
$$;

-- The handler: index one page. {"page": "sql-select.html", "encoding": "WIN1252"}; the
-- encoding is UTF8 unless the payload says otherwise.
CREATE FUNCTION library.index_page(payload jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    file_name text := payload ->> 'page';
    path text := (SELECT m.dir FROM library.manual m) || '/' || file_name;
    html text;
    home text;
    parent text;
    parent_title text;
    trail text[] := '{}';
    page_title text;
    content text;
BEGIN
    PERFORM nextval('library.attempt_seq');
    IF file_name IS NULL OR file_name !~ '^[A-Za-z0-9_-]+\.html$' THEN
        RAISE EXCEPTION 'not a page of the manual: %', payload USING ERRCODE = 'invalid_parameter_value';
    END IF;

    -- A file that is not valid in its encoding raises SQLSTATE 22021. Trying again
    -- would not help, so such a job goes to the dead letter queue at once.
    html := convert_from(pg_read_binary_file(path), coalesce(payload ->> 'encoding', 'UTF8'));

    -- The header of a page names the front page (Home) and the page above (Up). That is the
    -- whole breadcrumb down to the chapters. Below, it continues the one of the page above,
    -- which must be indexed first. If it is not, that is a plain error, and the job is tried
    -- again a little later.
    home := substring(html FROM '<a accesskey="h" href="[^"]+" title="([^"]+)"');
    parent := substring(html FROM '<a accesskey="u" href="([^"]+)"');
    parent_title := substring(html FROM '<a accesskey="u" href="[^"]+" title="([^"]+)"');
    IF parent IS NOT NULL AND parent_title <> home AND parent_title !~ '^Part[ \u00A0]' THEN
        SELECT p.breadcrumb || p.title INTO trail FROM library.page p WHERE p.file = parent;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the page above, %, is not indexed yet', parent;
        END IF;
    ELSIF parent IS NOT NULL THEN
        trail := array_remove(ARRAY[library.plain_text(home), CASE WHEN parent_title <> home THEN library.plain_text(parent_title) END], NULL);
    END IF;

    page_title := library.plain_text(substring(html FROM '<title>(.*?)</title>'));
    content := substring(html FROM '<body.*</body>');
    content := regexp_replace(content, '<div class="navheader">.*?</div>', ' ');
    content := regexp_replace(content, '<div class="navfooter">.*?</div>', ' ');
    content := library.plain_text(content);

    INSERT INTO library.page (file, title, breadcrumb, body, search)
    VALUES (file_name, page_title, trail, content,
            setweight(to_tsvector('english', page_title), 'A')
            || setweight(to_tsvector('english', array_to_string(trail, ' ')), 'C')
            || setweight(to_tsvector('english', content), 'D'))
    ON CONFLICT (file) DO UPDATE
       SET title = excluded.title, breadcrumb = excluded.breadcrumb, body = excluded.body, search = excluded.search;
    INSERT INTO library.effect (file) VALUES (file_name);
END;
$$;

RESET ROLE;

-- A task: a name, what to call, and as which role. Its jobs retry after 0.2 s, 0.3 s, 0.45 s, …
SELECT backfill.set_retry_policy('patient', max_attempts => 12, initial_delay => '200 ms', max_delay => '2 s',
                                 multiplier => 1.5, jitter_factor => 0.2);
SELECT backfill.register_task('index_page', 'library.index_page(jsonb)', run_as => 'librarian', retry_policy => 'patient');
-- Two of the presets are meant for calls over a network. Here a page waits for another
-- page, which takes less than a second.
SELECT backfill.set_retry_policy('fast', max_attempts => 12, initial_delay => '500 ms', max_delay => '2 s', multiplier => 1.5);
SELECT backfill.set_retry_policy('aggressive', initial_delay => '200 ms', max_delay => '2 s');
SELECT backfill.set_retry_policy('conservative', max_attempts => 8, initial_delay => '500 ms', max_delay => '3 s', multiplier => 1.5);

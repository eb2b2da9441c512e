-- Which node has which slot. sql/install/83_nodes.sql says what a slot is; a node's own list counts if they differ.

CREATE TABLE backfill.router (
    id uuid PRIMARY KEY
);
CREATE UNIQUE INDEX router_one_idx ON backfill.router ((true));
COMMENT ON TABLE backfill.router IS 'The identity of this router: its nodes know it by that. One row, from the first add_node() on.';

CREATE TABLE backfill.node (
    number smallint PRIMARY KEY CHECK (number BETWEEN 0 AND 63),
    name text COLLATE "C" NOT NULL CHECK (name <> ''),
    conninfo text NOT NULL,
    key uuid NOT NULL,
    mark bigint NOT NULL DEFAULT 0, -- the node has given this id; it must not go back behind it
    removed boolean NOT NULL DEFAULT false, -- its number is not used again
    silent_since timestamptz, -- check_nodes() could not reach it, or had no answer in time
    added_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE UNIQUE INDEX node_name_idx ON backfill.node (name) WHERE NOT removed;
COMMENT ON TABLE backfill.node IS 'The nodes; see the view backfill.nodes.';

CREATE TABLE backfill.slot (
    slot smallint PRIMARY KEY CHECK (slot BETWEEN -64 AND 255),
    node smallint NOT NULL REFERENCES backfill.node,
    moving_to smallint REFERENCES backfill.node,
    -- draining: its jobs are taken out of their tables on the old node, and may be put back;
    -- copying: they are taken to the new node, and there is no way back.
    phase text COLLATE "C" CHECK (phase IN ('draining', 'copying')),
    CONSTRAINT slot_move_complete CHECK ((moving_to IS NULL) = (phase IS NULL))
);
COMMENT ON TABLE backfill.slot IS 'The slots, which node has them, and which are being moved; those below 0 are of jobs without a queue and a key.';

-- A job keeps its id when it is moved, so the node in its id may not be the one that has it.
CREATE TABLE backfill.moved (
    number smallint REFERENCES backfill.node,
    node smallint REFERENCES backfill.node,
    PRIMARY KEY (number, node)
);
COMMENT ON TABLE backfill.moved IS 'Nodes that may have jobs and letters with the number of another node in their ids.';

CREATE TABLE backfill.task_queue (
    task_identifier text COLLATE "C" PRIMARY KEY,
    queue_name text COLLATE "C" NOT NULL
);
COMMENT ON TABLE backfill.task_queue IS 'The queues of tasks that are registered with one: they decide where a job goes that names none.';

SELECT pg_catalog.pg_extension_config_dump('backfill.router', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.node', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.slot', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.moved', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.task_queue', '');

CREATE VIEW backfill.nodes AS
SELECT n.number, n.name, n.conninfo,
       pg_catalog.count(s.slot) FILTER (WHERE s.slot >= 0) AS slots,
       pg_catalog.count(s.slot) FILTER (WHERE s.moving_to IS NOT NULL) AS moving,
       n.mark, n.added_at, n.silent_since
  FROM backfill.node n LEFT JOIN backfill.slot s ON s.node = n.number
 WHERE NOT n.removed GROUP BY n.number;
COMMENT ON VIEW backfill.nodes IS 'The nodes of this router, and how many of the 256 slots each has.';
COMMENT ON COLUMN backfill.nodes.number IS 'In bits 47 to 52 of the ids that the node gives.';
COMMENT ON COLUMN backfill.nodes.moving IS 'Slots that are being moved to another node.';
COMMENT ON COLUMN backfill.nodes.silent_since IS 'Since when check_nodes() has no answer: jobs that can go to another node go there, and views ask this one last.';
COMMENT ON COLUMN backfill.nodes.mark IS 'The highest id that check_nodes() has seen: a node that is behind it has gone back in time, and is refused.';

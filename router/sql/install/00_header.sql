/* backfill_router: the functions of backfill in a database that has no jobs: they call those of the databases that have.
 * Assembled from router/sql/install/NN_*.sql by the Makefile; edit those parts. docs/scale-out.md is the guide. */
\echo Use "CREATE EXTENSION backfill_router" to load this file. \quit
-- The same schema as on the nodes, so that calls stay as they are. So a database is a node or a router, never both.
CREATE SCHEMA backfill;
COMMENT ON SCHEMA backfill IS 'Job queue on many nodes: enqueue(), add_node(), views nodes, jobs, queues, tasks, dlq.';

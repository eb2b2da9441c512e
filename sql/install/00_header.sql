/* backfill: a durable priority job queue that runs its jobs inside the server.
 * Assembled from sql/install/NN_*.sql by the Makefile; edit those parts. */
\echo Use "CREATE EXTENSION backfill" to load this file. \quit

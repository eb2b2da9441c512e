/* From 0.1.0 to 0.2.0: what CREATE EXTENSION makes of sql/install today, and 0.1.0 had not.
 * A change of sql/install goes in here, too; test/t/135_upgrade.pl says what is missing. */
\echo Use "ALTER EXTENSION backfill UPDATE" to load this file. \quit

-- Takes back 0001: every row of every table of columns goes, and what shows those that count.
DROP VIEW IF EXISTS {view} SYNC;
DROP TABLE IF EXISTS {table} SYNC;

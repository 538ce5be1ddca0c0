-- What every table of columns begins as; columns of values are added when it is used. A row is named by all of the key
-- but its revision. Of two rows with one key the one with the higher precedence counts, which is the one that was
-- written first.
CREATE TABLE IF NOT EXISTS {table} (
    tenant     LowCardinality(String),
    series     String CODEC(ZSTD),
    time_ns    Int64 CODEC(DoubleDelta, ZSTD),
    id         String CODEC(ZSTD),
    revision   UInt32 CODEC(T64, ZSTD),
    precedence UInt128 CODEC(ZSTD),
    time       DateTime64(9, 'UTC') ALIAS fromUnixTimestamp64Nano(time_ns, 'UTC')
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY toYYYYMM(fromUnixTimestamp64Nano(time_ns, 'UTC'))
ORDER BY (tenant, series, time_ns, id, revision)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1;

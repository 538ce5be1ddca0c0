-- Records, the event log and vectors. Runs with the schema first in search_path, in one transaction.
-- A `LATERAL` with `LIMIT 1` is looked up by its index for each row, whatever the planner believes of a young table.

CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;

-- Records. Keys and values are bytes, because texts of PostgreSQL cannot hold U+0000 and must be compared byte by byte.

CREATE TABLE records (
    tenant     text   COLLATE "C" NOT NULL,
    table_name text   COLLATE "C" NOT NULL,
    key        bytea  NOT NULL,
    version    bigint NOT NULL,
    body       bytea  NOT NULL,
    PRIMARY KEY (tenant, table_name, key)
);

-- One counter for all keys, so that no key is given a version twice, even after a delete.
CREATE SEQUENCE record_versions CACHE 1;

-- `value` sorts as the value does: 0 and the integer with its sign bit flipped, or 1 and the text.
CREATE TABLE record_values (
    tenant     text  COLLATE "C" NOT NULL,
    table_name text  COLLATE "C" NOT NULL,
    index_name text  COLLATE "C" NOT NULL,
    key        bytea NOT NULL,
    value      bytea NOT NULL,
    PRIMARY KEY (tenant, table_name, key, index_name)
);
CREATE INDEX record_values_by_value ON record_values (tenant, table_name, index_name, value, key);

-- Does every write or none. Locks come first, so that what is compared after them is what the commit before left.
-- A commit of many writes locks the tenant as a whole; a small one shares the tenant and locks its keys.
-- Returns the version of each write, or the place (from 1) and the found version of the first that is in conflict.
CREATE FUNCTION commit_records(
    p_tenant text, p_tenant_lock bigint, p_key_locks bigint[],
    p_tables text[], p_keys bytea[], p_expects bigint[], p_bodies bytea[], p_index_names text[],
    p_value_tables text[], p_value_keys bytea[], p_value_names text[], p_values bytea[],
    OUT versions bigint[], OUT conflict_place bigint, OUT conflict_version bigint
) LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    v_lock bigint;
BEGIN
    IF p_key_locks IS NULL THEN
        PERFORM pg_advisory_xact_lock(p_tenant_lock);
    ELSE
        PERFORM pg_advisory_xact_lock_shared(p_tenant_lock);
        FOREACH v_lock IN ARRAY p_key_locks LOOP
            PERFORM pg_advisory_xact_lock(v_lock);
        END LOOP;
    END IF;

    SELECT w.place, r.version INTO conflict_place, conflict_version
    FROM unnest(p_tables, p_keys, p_expects) WITH ORDINALITY AS w (table_name, key, expect, place)
    LEFT JOIN LATERAL (
        SELECT version FROM records WHERE tenant = p_tenant AND table_name = w.table_name AND key = w.key LIMIT 1
    ) r ON true
    WHERE NOT CASE w.expect
        WHEN -2 THEN true
        WHEN -1 THEN r.version IS NULL
        ELSE coalesce(r.version = w.expect, false)
    END
    ORDER BY w.place LIMIT 1;
    IF conflict_place IS NOT NULL THEN
        RETURN;
    END IF;

    -- `p_index_names` has the indexes that each record keeps a value in, joined by commas.
    DELETE FROM record_values v
    USING unnest(p_tables, p_keys, p_index_names) AS w (table_name, key, index_names)
    WHERE v.tenant = p_tenant AND v.table_name = w.table_name AND v.key = w.key
      AND v.index_name <> ALL (string_to_array(w.index_names, ','));

    DELETE FROM records r
    USING unnest(p_tables, p_keys, p_bodies) AS w (table_name, key, body)
    WHERE w.body IS NULL AND r.tenant = p_tenant AND r.table_name = w.table_name AND r.key = w.key;

    SELECT array_agg(CASE WHEN w.body IS NULL THEN 0 ELSE nextval('record_versions') END ORDER BY w.place)
    INTO versions FROM unnest(p_bodies) WITH ORDINALITY AS w (body, place);

    INSERT INTO records (tenant, table_name, key, version, body)
    SELECT p_tenant, w.table_name, w.key, w.version, w.body
    FROM unnest(p_tables, p_keys, versions, p_bodies) AS w (table_name, key, version, body)
    WHERE w.body IS NOT NULL
    ON CONFLICT (tenant, table_name, key) DO UPDATE SET version = excluded.version, body = excluded.body;

    INSERT INTO record_values AS v (tenant, table_name, index_name, key, value)
    SELECT p_tenant, w.table_name, w.index_name, w.key, w.value
    FROM unnest(p_value_tables, p_value_names, p_value_keys, p_values) AS w (table_name, index_name, key, value)
    ON CONFLICT (tenant, table_name, key, index_name) DO UPDATE SET value = excluded.value
    WHERE v.value <> excluded.value;
END $$;

-- Removes up to `p_limit` records of a tenant with their values; returns how many.
CREATE FUNCTION erase_records(p_tenant text, p_tenant_lock bigint, p_limit int) RETURNS bigint
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    v_count bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(p_tenant_lock);
    WITH gone AS (
        DELETE FROM records
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM records WHERE tenant = p_tenant LIMIT p_limit))
        RETURNING table_name, key
    ), without_values AS (
        DELETE FROM record_values v USING gone
        WHERE v.tenant = p_tenant AND v.table_name = gone.table_name AND v.key = gone.key
    )
    SELECT count(*) INTO v_count FROM gone;
    RETURN v_count;
END $$;

-- The event log.

CREATE TABLE topics (
    number     int  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text COLLATE "C" NOT NULL UNIQUE,
    partitions int  NOT NULL
);

-- `first_offset` is the oldest that is held, `next_offset` the next that is given.
CREATE TABLE partitions (
    topic        int    NOT NULL,
    partition    int    NOT NULL,
    first_offset bigint NOT NULL DEFAULT 0,
    next_offset  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);

-- `id_hash` is of tenant, source and id; it is unique for as long as its event is held.
CREATE TABLE events (
    topic        int    NOT NULL,
    partition    int    NOT NULL,
    place        bigint NOT NULL,
    id_hash      uuid   NOT NULL,
    time_ms      bigint NOT NULL,
    checksum     int    NOT NULL,
    body         bytea  NOT NULL,
    PRIMARY KEY (topic, partition, place)
);
CREATE UNIQUE INDEX events_by_id ON events (topic, id_hash);

CREATE TABLE group_offsets (
    group_name text   COLLATE "C" NOT NULL,
    topic_name text   COLLATE "C" NOT NULL,
    partition  int    NOT NULL,
    place      bigint NOT NULL,
    PRIMARY KEY (group_name, topic_name, partition)
) WITH (fillfactor = 50);

-- Finds a topic or makes it.
CREATE FUNCTION open_topic(p_name text, p_partitions int, OUT topic_number int, OUT topic_partitions int)
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    INSERT INTO topics (name, partitions) VALUES (p_name, p_partitions) ON CONFLICT (name) DO NOTHING;
    SELECT number, t.partitions INTO topic_number, topic_partitions FROM topics t WHERE name = p_name;
    INSERT INTO partitions (topic, partition)
    SELECT topic_number, n FROM generate_series(0, topic_partitions - 1) AS n
    ON CONFLICT DO NOTHING;
END $$;

-- Appends events whose ids differ from each other. The topic's row is locked until the commit, so that offsets become
-- visible in their order: a reader that saw one has seen, or can see, every one before it.
-- Returns a row for each event, in the order given.
CREATE FUNCTION append_events(
    p_topic int, p_partitions int[], p_ids uuid[], p_times_ms bigint[], p_checksums int[], p_bodies bytea[]
) RETURNS TABLE (at_partition int, at_place bigint, is_new boolean)
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    -- Read once, as the row of a busy partition has many dead versions to step over.
    v_next bigint[];
BEGIN
    PERFORM FROM topics WHERE number = p_topic FOR NO KEY UPDATE;
    SELECT array_agg(next_offset ORDER BY partition) INTO v_next FROM partitions WHERE topic = p_topic;
    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT g.*, e.partition AS held_partition, e.place AS held_place,
               v_next[g.partition + 1] - 1
                   + row_number() OVER (PARTITION BY g.partition, e.place IS NULL ORDER BY g.number) AS new_place
        FROM unnest(p_partitions, p_ids, p_times_ms, p_checksums, p_bodies) WITH ORDINALITY
             AS g (partition, id_hash, time_ms, checksum, body, number)
        LEFT JOIN LATERAL (
            SELECT partition, place FROM events WHERE topic = p_topic AND id_hash = g.id_hash LIMIT 1
        ) e ON true
    ), written AS (
        INSERT INTO events (topic, partition, place, id_hash, time_ms, checksum, body)
        SELECT p_topic, g.partition, g.new_place, g.id_hash, g.time_ms, g.checksum, g.body
        FROM given g WHERE g.held_place IS NULL
    ), moved AS (
        UPDATE partitions p SET next_offset = n.last_place + 1
        FROM (
            SELECT g.partition, max(g.new_place) AS last_place FROM given g
            WHERE g.held_place IS NULL GROUP BY g.partition
        ) n
        WHERE p.topic = p_topic AND p.partition = n.partition
    )
    SELECT coalesce(g.held_partition, g.partition), coalesce(g.held_place, g.new_place), g.held_place IS NULL
    FROM given g ORDER BY g.number;
END $$;

-- Removes the oldest events of a partition up to the first that must stay, at most `p_limit`; returns how many.
CREATE FUNCTION retain_events(p_topic int, p_partition int, p_keep_events bigint, p_keep_from_ms bigint, p_limit int)
RETURNS bigint
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    v_first bigint;
    v_next  bigint;
    v_end   bigint;
    v_stays bigint;
BEGIN
    PERFORM FROM topics WHERE number = p_topic FOR NO KEY UPDATE;
    SELECT first_offset, next_offset INTO v_first, v_next
    FROM partitions WHERE topic = p_topic AND partition = p_partition;
    v_end := least(v_next, v_first + p_limit);
    SELECT e.place INTO v_stays FROM events e
    WHERE e.topic = p_topic AND e.partition = p_partition AND e.place >= v_first AND e.place < v_end
      AND (p_keep_events IS NULL OR v_next - e.place <= p_keep_events)
      AND (p_keep_from_ms IS NULL OR e.time_ms >= p_keep_from_ms)
    ORDER BY e.place LIMIT 1;
    v_end := coalesce(v_stays, v_end);
    IF v_end IS NULL OR v_end <= v_first THEN
        RETURN 0;
    END IF;
    DELETE FROM events e
    WHERE e.topic = p_topic AND e.partition = p_partition AND e.place >= v_first AND e.place < v_end;
    UPDATE partitions SET first_offset = v_end WHERE topic = p_topic AND partition = p_partition;
    RETURN v_end - v_first;
END $$;

-- Vectors. Each length and metric has a table of its own with its own index, made when it is first needed.

CREATE TABLE vector_collections (
    tenant     text   COLLATE "C" NOT NULL,
    name       text   COLLATE "C" NOT NULL,
    dimensions int    NOT NULL,
    metric     text   NOT NULL CHECK (metric IN ('cosine', 'dot', 'euclidean')),
    items      bigint NOT NULL,
    PRIMARY KEY (tenant, name)
) WITH (fillfactor = 50);

-- Makes the table of a length and metric when it is not there; returns its name. pgvector indexes vectors of up to
-- 2,000 numbers, and up to 4,000 in half precision; longer ones have no index and are searched exactly.
CREATE FUNCTION open_vector_table(p_dimensions int, p_metric text) RETURNS text
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    v_table text := format('vectors_%s_%s', p_metric, p_dimensions);
    v_opclass text := CASE p_metric WHEN 'cosine' THEN 'cosine_ops' WHEN 'dot' THEN 'ip_ops' ELSE 'l2_ops' END;
BEGIN
    IF to_regclass(v_table) IS NOT NULL THEN
        RETURN v_table;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended(v_table, 0));
    IF to_regclass(v_table) IS NOT NULL THEN
        RETURN v_table;
    END IF;
    EXECUTE format(
        'CREATE TABLE %I (
            tenant     text   COLLATE "C" NOT NULL,
            collection text   COLLATE "C" NOT NULL,
            key        bytea  NOT NULL,
            tags       bytea[] NOT NULL,
            embedding  vector(%s) NOT NULL,
            PRIMARY KEY (tenant, collection, key)
        )', v_table, p_dimensions);
    IF p_dimensions <= 1800 THEN
        -- Kept in the row: reading each from beside the table costs more than the search itself.
        EXECUTE format('ALTER TABLE %I ALTER COLUMN embedding SET STORAGE PLAIN', v_table);
    END IF;
    EXECUTE format('CREATE INDEX ON %I USING gin (tags)', v_table);
    IF p_dimensions <= 2000 THEN
        EXECUTE format('CREATE INDEX ON %I USING hnsw (embedding vector_%s)', v_table, v_opclass);
    ELSIF p_dimensions <= 4000 THEN
        EXECUTE format('CREATE INDEX ON %I USING hnsw ((embedding::halfvec(%s)) halfvec_%s)',
            v_table, p_dimensions, v_opclass);
    END IF;
    RETURN v_table;
END $$;

-- Adds or replaces vectors of one collection; false when it holds vectors of another length.
CREATE FUNCTION upsert_vectors(
    p_tenant text, p_name text, p_dimensions int, p_metric text, p_keys bytea[], p_vectors vector[],
    p_tag_places int[], p_tags bytea[]
) RETURNS boolean
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    v_held  vector_collections;
    v_added bigint;
BEGIN
    INSERT INTO vector_collections VALUES (p_tenant, p_name, p_dimensions, p_metric, 0) ON CONFLICT DO NOTHING;
    SELECT * INTO v_held FROM vector_collections WHERE tenant = p_tenant AND name = p_name FOR UPDATE;
    IF v_held.items > 0 AND v_held.dimensions <> p_dimensions THEN
        RETURN false;
    END IF;
    IF v_held.items = 0 THEN
        v_held.dimensions := p_dimensions;
        v_held.metric := p_metric;
    END IF;
    EXECUTE format(
        'WITH given AS (
            SELECT w.key, w.embedding,
                   ARRAY(SELECT t.tag FROM unnest($5, $6) AS t (place, tag) WHERE t.place = w.place) AS tags
            FROM unnest($3, $4) WITH ORDINALITY AS w (key, embedding, place)
        ), written AS (
            INSERT INTO %I (tenant, collection, key, tags, embedding)
            SELECT $1, $2, key, tags, embedding FROM given
            ON CONFLICT (tenant, collection, key) DO UPDATE SET tags = excluded.tags, embedding = excluded.embedding
            RETURNING (xmax = 0) AS is_added
        ) SELECT count(*) FILTER (WHERE is_added) FROM written',
        open_vector_table(v_held.dimensions, v_held.metric)
    ) INTO v_added USING p_tenant, p_name, p_keys, p_vectors, p_tag_places, p_tags;
    UPDATE vector_collections SET dimensions = v_held.dimensions, metric = v_held.metric, items = items + v_added
    WHERE tenant = p_tenant AND name = p_name;
    RETURN true;
END $$;

-- Removes vectors; returns how many were there.
CREATE FUNCTION delete_vectors(p_tenant text, p_name text, p_keys bytea[]) RETURNS bigint
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    v_held vector_collections;
    v_gone bigint;
BEGIN
    SELECT * INTO v_held FROM vector_collections WHERE tenant = p_tenant AND name = p_name FOR UPDATE;
    IF NOT FOUND OR v_held.items = 0 THEN
        RETURN 0;
    END IF;
    EXECUTE format(
        'WITH gone AS (
            DELETE FROM %I WHERE tenant = $1 AND collection = $2 AND key = ANY ($3) RETURNING 1
        ) SELECT count(*) FROM gone',
        open_vector_table(v_held.dimensions, v_held.metric)
    ) INTO v_gone USING p_tenant, p_name, p_keys;
    UPDATE vector_collections SET items = items - v_gone WHERE tenant = p_tenant AND name = p_name;
    RETURN v_gone;
END $$;

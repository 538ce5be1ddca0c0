-- Takes back 0001: everything that is stored goes. The extension stays, other schemas may use it.

DO $$
DECLARE
    v_name text;
BEGIN
    FOR v_name IN
        SELECT tablename FROM pg_tables
        WHERE schemaname = current_schema() AND tablename ~ '^vectors_(cosine|dot|euclidean)_[0-9]+$'
    LOOP
        EXECUTE format('DROP TABLE %I', v_name);
    END LOOP;
END $$;

DROP FUNCTION delete_vectors;
DROP FUNCTION upsert_vectors;
DROP FUNCTION open_vector_table;
DROP TABLE vector_collections;
DROP FUNCTION retain_events;
DROP FUNCTION append_events;
DROP FUNCTION open_topic;
DROP TABLE group_offsets;
DROP TABLE events;
DROP TABLE partitions;
DROP TABLE topics;
DROP FUNCTION erase_records;
DROP FUNCTION commit_records;
DROP TABLE record_values;
DROP SEQUENCE record_versions;
DROP TABLE records;

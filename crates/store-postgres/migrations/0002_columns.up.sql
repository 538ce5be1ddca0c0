-- Columns. Each declared table has a table of its own, made when it is first used. Runs with the schema first in
-- search_path, in one transaction. It only adds, so that the release before runs on.

-- Makes the table `columns_NAME` or adds what it lacks; returns the first column that it holds as another type.
-- Texts are compared byte by byte. The index has the order of every read: the highest revision of a row comes first.
CREATE FUNCTION open_column_table(p_name text, p_columns text[], p_types text[]) RETURNS text
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    v_table   text := format('%I.%I', current_schema(), 'columns_' || p_name);
    v_missing text;
    v_other   text;
BEGIN
    IF to_regclass(v_table) IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended(v_table, 0));
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS %s (
                tenant   text   COLLATE "C" NOT NULL,
                series   text   COLLATE "C" NOT NULL,
                time_ns  bigint NOT NULL,
                id       text   COLLATE "C" NOT NULL,
                revision int    NOT NULL
            )', v_table);
        EXECUTE format(
            'CREATE UNIQUE INDEX IF NOT EXISTS %I ON %s (tenant, series, time_ns, id, revision DESC)',
            'columns_' || p_name || '_by_place', v_table);
    END IF;
    SELECT string_agg(format('ADD COLUMN IF NOT EXISTS %I %s', 'v_' || c.name, c.type), ', ' ORDER BY c.place)
               FILTER (WHERE a.attname IS NULL),
           min(c.name) FILTER (WHERE format_type(a.atttypid, a.atttypmod) <> c.type)
    INTO v_missing, v_other
    FROM unnest(p_columns, p_types) WITH ORDINALITY AS c (name, type, place)
    LEFT JOIN pg_attribute a
        ON a.attrelid = v_table::regclass AND a.attname = 'v_' || c.name AND NOT a.attisdropped;
    IF v_other IS NOT NULL THEN
        RETURN v_other;
    END IF;
    IF v_missing IS NOT NULL THEN
        EXECUTE format('ALTER TABLE %s %s', v_table, v_missing);
    END IF;
    RETURN NULL;
END $$;

-- Removes up to `p_limit` rows of a tenant from one of the tables; returns how many, 0 when none is left anywhere.
CREATE FUNCTION erase_columns(p_tenant text, p_limit int) RETURNS bigint
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    v_table text;
    v_count bigint;
BEGIN
    FOR v_table IN
        SELECT tablename FROM pg_tables
        WHERE schemaname = current_schema() AND tablename LIKE 'columns\_%' ORDER BY tablename
    LOOP
        EXECUTE format(
            'WITH gone AS (
                DELETE FROM %I WHERE ctid = ANY (ARRAY(SELECT ctid FROM %I WHERE tenant = $1 LIMIT $2)) RETURNING 1
            ) SELECT count(*) FROM gone', v_table, v_table
        ) INTO v_count USING p_tenant, p_limit;
        IF v_count > 0 THEN
            RETURN v_count;
        END IF;
    END LOOP;
    RETURN 0;
END $$;

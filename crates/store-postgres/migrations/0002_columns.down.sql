-- Takes back 0002: every row of every table of columns goes.

DO $$
DECLARE
    v_name text;
BEGIN
    FOR v_name IN
        SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename LIKE 'columns\_%'
    LOOP
        EXECUTE format('DROP TABLE %I', v_name);
    END LOOP;
END $$;

DROP FUNCTION erase_columns;
DROP FUNCTION open_column_table;

-- What task=db asks. The tables of a backup are named in runner/backup.py.

-- name: columns
-- The columns of a table that hold something of their own, in their order.
SELECT attname FROM pg_attribute
WHERE attrelid = to_regclass(%(table)s) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY attnum;

-- name: contents
-- What a database holds beyond what a first start writes into it.
SELECT
    (SELECT count(*) FROM agent_sessions) AS sessions,
    (SELECT count(*) FROM rag_documents) AS chunks,
    (SELECT count(*) FROM agent_instructions
     WHERE instructions <> %(instructions)s OR name <> %(name)s) AS personas,
    (SELECT count(*) FROM system_config
     WHERE NOT starts_with(key, 'configuration:')) AS settings;

-- name: users
-- Runners and their calls that work on this database now.
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name IN ('runner', 'runner-call')
  AND pid <> pg_backend_pid();

-- What doctor looks at.

-- name: database_facts
-- Versions and counts in one row. shared_sessions finds conversations that overlap.
SELECT current_setting('server_version') AS version,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS vector,
       (SELECT count(*) FROM agent_instructions WHERE is_active AND is_local_mode) AS instructions,
       (SELECT count(DISTINCT filename) FROM rag_documents) AS documents,
       (SELECT count(*) FROM rag_documents) AS chunks,
       (SELECT count(*) FROM (SELECT session_id FROM agent_sessions WHERE status = 'active'
                              GROUP BY session_id HAVING count(*) > 1) AS shared) AS shared_sessions;

-- name: latest_active_sessions
-- The specification's measure of the database's speed: under 10 ms.
SELECT * FROM agent_sessions WHERE status = 'active' ORDER BY last_activity DESC LIMIT 10;

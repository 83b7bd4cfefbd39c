-- What the runner asks of its tables. Each query is named, with a line on what it is for.
-- Placeholders are psycopg's: %(name)s.

-- name: database_state
-- What of the database is there, and what the user may do about the rest.
SELECT
    EXISTS (SELECT FROM pg_extension WHERE extname = 'vector') AS has_vector,
    EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') AS vector_available,
    (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
        OR EXISTS (
            SELECT FROM pg_available_extension_versions
            WHERE name = 'vector' AND (trusted OR NOT superuser)
              AND has_database_privilege(current_database(), 'CREATE')
        ) AS may_create_vector,
    has_schema_privilege(current_schema(), 'CREATE') AS may_create_tables,
    (SELECT coalesce(array_agg(name), '{}') FROM unnest(ARRAY[
        'agent_instructions', 'agent_sessions', 'conversation_messages', 'rag_documents',
        'system_config'
    ]) AS name WHERE to_regclass(name) IS NULL) AS missing_tables,
    (SELECT coalesce(array_agg(name), '{}') FROM unnest(ARRAY[
        'conversation_messages_session_id_created_at_idx',
        'agent_sessions_active_last_activity_idx'
    ]) AS name WHERE to_regclass(name) IS NULL) AS missing_indexes;

-- name: database_presence
-- Whether a database is there already, and whether the user may create it.
SELECT
    EXISTS (SELECT FROM pg_database WHERE datname = %(name)s) AS present,
    (SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user) AS creatable;

-- name: seed_instructions
-- Give an empty deployment its persona; a table with active local instructions is left alone.
INSERT INTO agent_instructions
    (name, instructions, initial_greeting, language, is_active, is_local_mode)
SELECT %(name)s, %(instructions)s, %(greeting)s, %(language)s, true, true
WHERE NOT EXISTS (SELECT FROM agent_instructions WHERE is_active AND is_local_mode);

-- name: instructions
-- The persona of a new call: the call's language first, the latest change first.
SELECT id, name, instructions, initial_greeting AS greeting,
       coalesce(language, %(language)s) AS language
FROM agent_instructions
WHERE is_active AND is_local_mode
ORDER BY (language IS NOT DISTINCT FROM %(language)s) DESC, updated_at DESC NULLS LAST, id DESC
LIMIT 1;

-- name: open_session
-- A call begins. LiveKit's names may be one character longer than the columns.
INSERT INTO agent_sessions (session_id, room_id, participant_id, llm_provider, context)
VALUES (%(session_id)s, left(%(room_id)s, 255), left(%(participant_id)s, 255),
        left(%(llm_provider)s, 50), %(context)s);

-- name: add_message
-- Store a message and mark its session as alive, in one round trip; no row: no such session.
WITH touched AS (
    UPDATE agent_sessions
    SET message_count = coalesce(message_count, 0) + 1, last_activity = NOW()
    WHERE session_id = %(session_id)s
    RETURNING session_id
)
INSERT INTO conversation_messages (session_id, role, content, metadata)
SELECT session_id, %(role)s, %(content)s, %(metadata)s FROM touched;

-- name: end_session
-- A call ends. One that has ended already keeps its time.
UPDATE agent_sessions SET status = 'ended', ended_at = NOW()
WHERE session_id = %(session_id)s AND status = 'active';

-- name: end_idle
-- End the sessions without a message for so long, such as those of a worker that died.
UPDATE agent_sessions SET status = 'ended', ended_at = NOW()
WHERE status = 'active' AND last_activity < NOW() - make_interval(mins => %(minutes)s)
RETURNING room_id;

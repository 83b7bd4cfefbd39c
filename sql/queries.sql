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
    EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass('conversation_messages') AND attname = 'message_id'
    ) AS has_message_id,
    coalesce(
        substring(
            obj_description(to_regclass('agent_sessions'), 'pg_class') FROM '^runner schema (\d+)'
        )::integer, 1
    ) AS version;

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
        left(%(llm_provider)s, 50), %(context)s)
ON CONFLICT (session_id) DO NOTHING;

-- name: add_message
-- Store a message once and mark its session as alive, in one round trip; no row: no such session.
-- One that was stored already is not counted again. One that comes late has the time at which it was
-- said, but never one before the message that it follows: they come in order.
WITH stored AS (
    INSERT INTO conversation_messages
        (session_id, message_id, role, content, metadata, created_at)
    SELECT session_id, %(message_id)s, %(role)s, %(content)s, %(metadata)s,
           greatest(
               NOW() - make_interval(secs => %(age_s)s),
               (SELECT max(created_at) FROM conversation_messages
                WHERE session_id = %(session_id)s)
           )
    FROM agent_sessions WHERE session_id = %(session_id)s
    ON CONFLICT (message_id) DO NOTHING
    RETURNING session_id
)
UPDATE agent_sessions
SET message_count = coalesce(message_count, 0) + (SELECT count(*) FROM stored),
    last_activity = greatest(last_activity, NOW() - make_interval(secs => %(age_s)s))
WHERE session_id = %(session_id)s;

-- name: end_session
-- A call ends. One that has ended already keeps its time.
UPDATE agent_sessions SET status = 'ended', ended_at = NOW()
WHERE session_id = %(session_id)s AND status = 'active';

-- name: end_idle
-- End the sessions without a message for so long, such as those of a worker that died.
UPDATE agent_sessions SET status = 'ended', ended_at = NOW()
WHERE status = 'active' AND last_activity < NOW() - make_interval(mins => %(minutes)s)
RETURNING room_id;

-- name: expired_sessions
-- Sessions that ended so long ago that they may be forgotten, the oldest first.
SELECT session_id FROM agent_sessions
WHERE status = 'ended' AND ended_at < NOW() - make_interval(days => %(days)s)
ORDER BY ended_at, id
LIMIT %(limit)s;

-- name: count_expired_sessions
-- How many of them there are, and how many messages go with them.
SELECT count(DISTINCT session.session_id) AS sessions, count(message.id) AS messages
FROM agent_sessions AS session
LEFT JOIN conversation_messages AS message USING (session_id)
WHERE session.status = 'ended' AND session.ended_at < NOW() - make_interval(days => %(days)s);

-- name: whole_sessions
-- Sessions with their messages, an object each, for an archive.
SELECT to_jsonb(session) || jsonb_build_object('messages', coalesce((
    SELECT jsonb_agg(to_jsonb(message) ORDER BY message.created_at, message.id)
    FROM conversation_messages AS message WHERE message.session_id = session.session_id
), '[]'))
FROM agent_sessions AS session
WHERE session.session_id = ANY(%(session_ids)s)
ORDER BY session.ended_at, session.id;

-- name: create_archive
-- Where old conversations go with sessions.archive=table: the row, with its messages in order.
CREATE TABLE IF NOT EXISTS conversation_archive (
    session_id UUID PRIMARY KEY,
    session JSONB NOT NULL,
    archived_at TIMESTAMP DEFAULT NOW()
);

-- name: delete_sessions
-- Forget sessions; their messages go with them (ON DELETE CASCADE).
DELETE FROM agent_sessions WHERE session_id = ANY(%(session_ids)s);

-- name: archive_and_delete_sessions
-- The same, and keep them in the archive.
WITH archived AS (
    INSERT INTO conversation_archive (session_id, session)
    SELECT session.session_id,
           to_jsonb(session) || jsonb_build_object('messages', coalesce((
               SELECT jsonb_agg(to_jsonb(message) ORDER BY message.created_at, message.id)
               FROM conversation_messages AS message
               WHERE message.session_id = session.session_id
           ), '[]'))
    FROM agent_sessions AS session
    WHERE session.session_id = ANY(%(session_ids)s)
    ON CONFLICT (session_id) DO NOTHING
)
DELETE FROM agent_sessions WHERE session_id = ANY(%(session_ids)s);

-- name: keep_configuration
-- What a fingerprint in a session's context stands for.
INSERT INTO system_config (key, value, description)
VALUES (%(key)s, %(value)s, 'the configuration that sessions of this fingerprint ran with')
ON CONFLICT (key) DO NOTHING;

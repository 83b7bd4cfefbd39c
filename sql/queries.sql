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
-- The persona of a new call: the caller's language first, as exactly as there is one, then one for
-- any language (NULL), then one in the language of the configuration; of several the latest change.
SELECT id, name, instructions, initial_greeting AS greeting,
       coalesce(spoken, lower(%(language)s)) AS language
FROM agent_instructions
CROSS JOIN LATERAL (SELECT lower(replace(language, '_', '-')) AS spoken) AS its
WHERE is_active AND is_local_mode
ORDER BY CASE
        WHEN spoken = lower(%(language)s) THEN 1
        WHEN spoken = split_part(lower(%(language)s), '-', 1) THEN 2
        WHEN split_part(spoken, '-', 1) = split_part(lower(%(language)s), '-', 1) THEN 3
        WHEN spoken IS NULL THEN 4
        WHEN split_part(spoken, '-', 1) = split_part(lower(%(otherwise)s), '-', 1) THEN 5
        ELSE 6
    END,
    updated_at DESC NULLS LAST, id DESC
LIMIT 1;

-- name: languages
-- What a caller may choose to speak; a persona for any language (NULL) offers none.
SELECT DISTINCT replace(language, '_', '-') AS language
FROM agent_instructions
WHERE is_active AND is_local_mode AND language IS NOT NULL;

-- name: all_instructions
-- The personas as their operator sees them. In use: the one of its language that callers get.
SELECT id, name, instructions, initial_greeting AS greeting, language,
       coalesce(is_active, false) AS is_active, coalesce(is_local_mode, false) AS is_local_mode,
       updated_at AT TIME ZONE current_setting('TimeZone') AS updated_at,
       coalesce(is_active AND is_local_mode, false) AND 1 = row_number() OVER (
           PARTITION BY lower(replace(language, '_', '-')), is_active AND is_local_mode
           ORDER BY updated_at DESC NULLS LAST, id DESC
       ) AS in_use
FROM agent_instructions
ORDER BY language NULLS FIRST, id;

-- name: add_instructions
-- A new persona, not in use yet.
INSERT INTO agent_instructions
    (name, instructions, initial_greeting, language, is_active, is_local_mode)
VALUES (%(name)s, %(instructions)s, %(greeting)s, %(language)s, false, true)
RETURNING id;

-- name: edit_instructions
-- Change what is given of a persona; NULL stays as it is.
UPDATE agent_instructions
SET name = coalesce(%(name)s, name),
    instructions = coalesce(%(instructions)s, instructions),
    initial_greeting = coalesce(%(greeting)s, initial_greeting),
    language = coalesce(%(language)s, language)
WHERE id = %(id)s;

-- name: activate_instructions
-- Make a persona the only active one of its language, and name those whose turn is over.
WITH chosen AS (SELECT id, language FROM agent_instructions WHERE id = %(id)s AND is_local_mode)
UPDATE agent_instructions AS persona
SET is_active = (persona.id = chosen.id)
FROM chosen
WHERE persona.is_local_mode
  AND lower(replace(persona.language, '_', '-'))
      IS NOT DISTINCT FROM lower(replace(chosen.language, '_', '-'))
  AND coalesce(persona.is_active, false) <> (persona.id = chosen.id)
RETURNING persona.id, persona.name, persona.is_active;

-- name: deactivate_instructions
-- A persona is used no more, unless it is the last one.
UPDATE agent_instructions SET is_active = false
WHERE id = %(id)s AND EXISTS (
    SELECT FROM agent_instructions AS other
    WHERE other.is_active AND other.is_local_mode AND other.id <> %(id)s
);

-- name: instructions_history
-- What changed and when, the latest first, with what was there before.
SELECT version, instructions_id, change, content, changed_by,
       changed_at AT TIME ZONE current_setting('TimeZone') AS changed_at, before
FROM (
    SELECT *, lag(content) OVER (PARTITION BY instructions_id ORDER BY version) AS before
    FROM agent_instructions_history
) AS versions
WHERE %(id)s::integer IS NULL OR instructions_id = %(id)s
ORDER BY version DESC
LIMIT %(limit)s;

-- name: instructions_version
-- One version, to be shown or put back.
SELECT version, instructions_id, change, content, changed_by,
       changed_at AT TIME ZONE current_setting('TimeZone') AS changed_at, NULL AS before
FROM agent_instructions_history WHERE version = %(version)s;

-- name: restore_instructions
-- Put an older version back. It stays as active as the row is; a row that was deleted comes back
-- inactive.
INSERT INTO agent_instructions
    (id, name, instructions, initial_greeting, language, is_active, is_local_mode)
SELECT instructions_id, content ->> 'name', content ->> 'instructions',
       content ->> 'initial_greeting', content ->> 'language', false,
       (content ->> 'is_local_mode')::boolean
FROM agent_instructions_history WHERE version = %(version)s
ON CONFLICT (id) DO UPDATE
SET name = excluded.name, instructions = excluded.instructions,
    initial_greeting = excluded.initial_greeting, language = excluded.language
RETURNING id;

-- name: live_settings
-- What system_config lays over the configuration of a new call: all but what the program itself
-- keeps there.
SELECT key, value FROM system_config
WHERE NOT starts_with(key, 'configuration:') AND NOT starts_with(key, 'rag_failed:')
ORDER BY key
LIMIT 1000;

-- name: open_session
-- A call begins. LiveKit's names may be one character longer than the columns.
INSERT INTO agent_sessions
    (session_id, room_id, participant_id, llm_provider, context, worker_id, job_id)
VALUES (%(session_id)s, left(%(room_id)s, 255), left(%(participant_id)s, 255),
        left(%(llm_provider)s, 50), %(context)s, %(worker_id)s, left(%(job_id)s, 255))
ON CONFLICT (session_id) DO NOTHING;

-- name: resume_session
-- The same caller in the same room again: after a lost connection, or a job or worker that died.
UPDATE agent_sessions
SET status = 'active', ended_at = NULL, last_activity = NOW(),
    worker_id = %(worker_id)s, job_id = left(%(job_id)s, 255)
WHERE session_id = (
    SELECT session_id FROM agent_sessions
    WHERE room_id = left(%(room_id)s, 255) AND participant_id = left(%(participant_id)s, 255)
      AND (status = 'active' OR ended_at > NOW() - make_interval(secs => %(grace_s)s))
    ORDER BY id DESC
    LIMIT 1
)
RETURNING session_id;

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

-- name: recall
-- What was said last, for an agent who goes on with a session.
SELECT role, content FROM (
    SELECT role, content, created_at, id FROM conversation_messages
    WHERE session_id = %(session_id)s AND role IN ('user', 'assistant')
    ORDER BY created_at DESC, id DESC
    LIMIT %(limit)s
) AS latest
ORDER BY created_at, id;

-- name: end_session
-- A call ends. One that has ended already keeps its time, and one with which another job has gone on
-- is that one's.
UPDATE agent_sessions SET status = 'ended', ended_at = NOW()
WHERE session_id = %(session_id)s AND status = 'active'
  AND (%(job_id)s::text IS NULL OR job_id IS NOT DISTINCT FROM left(%(job_id)s, 255));

-- name: end_room
-- A call ends whose agent is no more.
UPDATE agent_sessions SET status = 'ended', ended_at = NOW()
WHERE room_id = left(%(room_id)s, 255) AND status = 'active';

-- name: beat
-- A worker says that it lives, and hears of the others.
WITH mine AS (
    INSERT INTO workers (worker_id) VALUES (%(worker_id)s)
    ON CONFLICT (worker_id) DO UPDATE SET beat = workers.beat + 1, seen_at = NOW()
)
SELECT worker_id, beat FROM workers WHERE worker_id <> %(worker_id)s;

-- name: leave
-- A worker ends, or is found dead: then only if its beat still stands.
DELETE FROM workers
WHERE worker_id = %(worker_id)s AND (%(beat)s::bigint IS NULL OR beat = %(beat)s);

-- name: adopt_orphans
-- The sessions of workers that are no more.
UPDATE agent_sessions SET worker_id = %(worker_id)s
WHERE status = 'active' AND worker_id IS NOT NULL
  AND worker_id NOT IN (SELECT worker_id FROM workers)
RETURNING session_id, room_id, participant_id;

-- name: now
-- What time it is by the clock that all the others go by.
SELECT extract(epoch FROM NOW());

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

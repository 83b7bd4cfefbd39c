-- What the operator's page asks. Each query is named, with a line on what it is for. Placeholders
-- are psycopg's: %(name)s. Times leave with their zone: columns hold the database's own without it.

-- name: sessions
-- A page of sessions, the latest first, from before a row on. Searched for: a part of the names of
-- caller, room and provider or of the session's id, or messages that hold all the words, each of
-- which may be the beginning of one. The words are turned into a query that holds nothing else.
WITH asked AS MATERIALIZED (
    SELECT (
        SELECT string_agg(quote_literal(word) || ':*', ' & ')
        FROM unnest(tsvector_to_array(to_tsvector('simple', %(search)s::text))) AS word
    )::tsquery AS words
)
SELECT session.id, session.session_id, session.room_id AS room, session.participant_id AS caller,
       session.created_at AT TIME ZONE current_setting('TimeZone') AS began_at,
       session.ended_at AT TIME ZONE current_setting('TimeZone') AS ended_at,
       session.status, session.llm_provider AS provider,
       coalesce(session.message_count, 0) AS messages, session.context ->> 'language' AS language
FROM agent_sessions AS session
WHERE (%(before)s::integer IS NULL OR session.id < %(before)s)
  AND (
      %(search)s::text = ''
      OR strpos(lower(concat_ws(' ', session.participant_id, session.room_id, session.llm_provider,
                                session.session_id::text)), lower(%(search)s::text)) > 0
      OR session.session_id IN (
          SELECT message.session_id FROM conversation_messages AS message
          WHERE to_tsvector('simple', left(message.content, 10000)) @@ (SELECT words FROM asked)
      )
  )
ORDER BY session.id DESC
LIMIT %(limit)s;

-- name: session
-- One session, as the page of sessions has it.
SELECT id, session_id, room_id AS room, participant_id AS caller,
       created_at AT TIME ZONE current_setting('TimeZone') AS began_at,
       ended_at AT TIME ZONE current_setting('TimeZone') AS ended_at,
       status, llm_provider AS provider, coalesce(message_count, 0) AS messages,
       context ->> 'language' AS language
FROM agent_sessions
WHERE session_id = %(session_id)s;

-- name: messages
-- What was said in it, in order.
SELECT role, content, created_at AT TIME ZONE current_setting('TimeZone') AS created_at, metadata
FROM conversation_messages
WHERE session_id = %(session_id)s
ORDER BY created_at, id
LIMIT %(limit)s;

-- name: end_call
-- A call is ended by its operator.
UPDATE agent_sessions SET status = 'ended', ended_at = NOW()
WHERE room_id = left(%(room)s, 255) AND status = 'active';

-- name: indexed
-- The documents that are indexed, with how much of them.
SELECT filename, count(*) AS chunks, max(created_at) AT TIME ZONE current_setting('TimeZone')
       AS indexed_at
FROM rag_documents
GROUP BY filename;

-- name: failed
-- The files that could not be indexed, and why.
SELECT value ->> 'filename' AS filename, value ->> 'reason' AS reason
FROM system_config
WHERE starts_with(key, 'rag_failed:');

-- name: forget_hash
-- A document looks changed to the indexer, and is found until it has been indexed anew.
UPDATE rag_documents SET file_hash = '' WHERE filename = %(filename)s;

-- name: forget_failure
-- A file that could not be indexed is tried again.
DELETE FROM system_config WHERE key = 'rag_failed:' || md5(%(filename)s::text);

-- name: set_setting
-- A setting that every new call has.
INSERT INTO system_config (key, value, description)
VALUES (%(key)s, %(value)s, %(description)s)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = NOW();

-- name: delete_setting
-- A setting is the configuration's again.
DELETE FROM system_config
WHERE key = %(key)s AND NOT starts_with(key, 'configuration:')
  AND NOT starts_with(key, 'rag_failed:');

-- name: note_change
-- Who changed what.
INSERT INTO operator_audit (changed_by, action, subject, before, after)
VALUES (%(by)s, %(action)s, left(%(subject)s, 500), %(before)s, %(after)s);

-- name: changes
-- A page of what was changed, the latest first, from before a row on.
SELECT id, changed_at AT TIME ZONE current_setting('TimeZone') AS at, changed_by AS who,
       action || ' ' || subject AS what, before, after
FROM operator_audit
WHERE %(before_id)s::integer IS NULL OR id < %(before_id)s
ORDER BY id DESC
LIMIT %(limit)s;

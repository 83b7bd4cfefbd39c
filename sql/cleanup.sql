-- Making room by hand, for psql: nothing here is run by the runner, which ends idle sessions by
-- itself (sessions.timeout_minutes) and forgets old ones where it is told to (task=retention). Each
-- query is named, with a line on what for. All of them, in this order:
--   psql -d voice_agent -f sql/cleanup.sql

-- name: end_idle_sessions
-- End the sessions without a message for half an hour, such as those of a machine that died.
UPDATE agent_sessions SET status = 'ended', ended_at = NOW()
WHERE status = 'active' AND last_activity < NOW() - INTERVAL '30 minutes';

-- name: create_archive
-- The table of the next query, where sessions.archive=table keeps conversations as well.
CREATE TABLE IF NOT EXISTS conversation_archive (
    session_id UUID PRIMARY KEY,
    session JSONB NOT NULL,
    archived_at TIMESTAMP DEFAULT NOW()
);

-- name: archive_old_sessions
-- Keep the sessions that ended more than 7 days ago, each with its messages in order.
INSERT INTO conversation_archive (session_id, session)
SELECT session.session_id,
       to_jsonb(session) || jsonb_build_object('messages', coalesce((
           SELECT jsonb_agg(to_jsonb(message) ORDER BY message.created_at, message.id)
           FROM conversation_messages AS message
           WHERE message.session_id = session.session_id
       ), '[]'))
FROM agent_sessions AS session
WHERE session.status = 'ended' AND session.ended_at < NOW() - INTERVAL '7 days'
ON CONFLICT (session_id) DO NOTHING;

-- name: delete_old_sessions
-- Forget them; their messages go with them (ON DELETE CASCADE).
DELETE FROM agent_sessions
WHERE status = 'ended'
AND ended_at < NOW() - INTERVAL '7 days';

-- name: remove_old_documents
-- Forget the documents of which nothing was indexed in the last 30 days; those that are still in the
-- documents folder come back at the next start.
DELETE FROM rag_documents
WHERE filename NOT IN (
    SELECT DISTINCT filename FROM rag_documents
    WHERE created_at > NOW() - INTERVAL '30 days'
);

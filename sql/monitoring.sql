-- Questions to a running deployment, for psql. Each query is named, with a line on what for.
-- Paste one, or run them all, with the values of those that ask for one:
--   psql -d voice_agent -v session_id=<uuid> -v filename=<part of a name> -f sql/monitoring.sql
-- The embedded database is entered with: psql -h <data folder>/run -U postgres -d voice_agent

-- name: active_sessions
-- All conversations that run now, the liveliest first.
SELECT id, session_id, room_id, participant_id, llm_provider,
       message_count, last_activity
FROM agent_sessions
WHERE status = 'active'
ORDER BY last_activity DESC;

-- name: active_users
-- Callers of the last five minutes.
SELECT COUNT(*) AS active_users
FROM agent_sessions
WHERE status = 'active'
AND last_activity > NOW() - INTERVAL '5 minutes';

-- name: conversation
-- One conversation in order; id tells apart what was stored in the same microsecond.
SELECT role, content, created_at
FROM conversation_messages
WHERE session_id = :'session_id'
ORDER BY created_at ASC, id ASC;

-- name: configuration
-- What a conversation ran with: its session's context has the fingerprint.
SELECT config.value AS configuration
FROM agent_sessions AS session
JOIN system_config AS config ON config.key = 'configuration:' || (session.context ->> 'configuration')
WHERE session.session_id = :'session_id';

-- name: similar_chunks
-- The chunks nearest to the first chunk of a file: what a search finds.
SELECT
    filename,
    content,
    chunk_index,
    1 - (embedding <=> query.vector) AS similarity
FROM rag_documents, (
    SELECT embedding AS vector FROM rag_documents
    WHERE filename LIKE '%' || :'filename' || '%' AND embedding IS NOT NULL
    ORDER BY filename, chunk_index LIMIT 1
) AS query
WHERE embedding IS NOT NULL
ORDER BY embedding <=> query.vector
LIMIT 5;

-- name: documents
-- All indexed documents; fewer chunks than total_chunks: the document was not indexed whole.
SELECT
    filename,
    COUNT(*) AS chunks,
    MAX(total_chunks) AS total_chunks,
    MAX(created_at) AS indexed_at
FROM rag_documents
GROUP BY filename
ORDER BY indexed_at DESC;

-- name: chunks_by_filename
-- The text of the documents whose name holds a word.
SELECT filename, chunk_index, content
FROM rag_documents
WHERE filename LIKE '%' || :'filename' || '%'
ORDER BY filename, chunk_index;

-- name: messages_per_session
-- How long conversations are.
SELECT
    AVG(message_count) AS avg_messages,
    MAX(message_count) AS max_messages,
    COUNT(*) AS total_sessions
FROM agent_sessions;

-- name: sessions_by_provider
-- Which LLM served how many sessions.
SELECT
    llm_provider,
    COUNT(*) AS session_count,
    AVG(message_count) AS avg_messages
FROM agent_sessions
GROUP BY llm_provider;

-- name: busiest_hours
-- Sessions begun in each hour of the last week.
SELECT
    DATE_TRUNC('hour', created_at) AS hour,
    COUNT(*) AS sessions_started
FROM agent_sessions
WHERE created_at > NOW() - INTERVAL '7 days'
GROUP BY hour
ORDER BY hour DESC;

-- name: response_times
-- How long callers waited in the last day, from their last sound to the first of the answer, and
-- what the answers cost in tokens, as far as the providers tell.
SELECT
    metadata #>> '{services,llm,provider}' AS provider,
    metadata #>> '{services,llm,model}' AS model,
    COUNT(*) AS answers,
    PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY (metadata ->> 'response_s')::float) AS p50_s,
    PERCENTILE_CONT(0.95) WITHIN GROUP (ORDER BY (metadata ->> 'response_s')::float) AS p95_s,
    SUM((metadata #>> '{services,llm,tokens,prompt}')::bigint) AS prompt_tokens,
    SUM((metadata #>> '{services,llm,tokens,completion}')::bigint) AS completion_tokens
FROM conversation_messages
WHERE role = 'assistant'
AND created_at > NOW() - INTERVAL '1 day'
GROUP BY provider, model
ORDER BY answers DESC;

-- name: sessions_today
-- Conversations since midnight.
SELECT COUNT(*) AS total_sessions
FROM agent_sessions
WHERE created_at > CURRENT_DATE;

-- name: messages_per_session_today
-- How long today's conversations are.
SELECT AVG(message_count) AS avg_messages
FROM agent_sessions
WHERE created_at > CURRENT_DATE;

-- name: providers_today
-- Which LLM served today.
SELECT llm_provider, COUNT(*) AS count
FROM agent_sessions
WHERE created_at > CURRENT_DATE
GROUP BY llm_provider;

-- name: instructions
-- What the agent is told at present, and in which languages.
SELECT id, name, language, is_active, initial_greeting, instructions
FROM agent_instructions
WHERE is_local_mode = true
ORDER BY is_active DESC, updated_at DESC;

-- name: mixed_sessions
-- Sessions of one id: callers would hear each other's context. Must give no row.
SELECT session_id, COUNT(*) AS count
FROM agent_sessions
WHERE status = 'active'
GROUP BY session_id
HAVING COUNT(*) > 1;

-- name: shared_rooms
-- Rooms in which several sessions run: each caller has a room of their own. Must give no row. The
-- terminal (task=chat) has no room.
SELECT room_id, COUNT(*) AS count
FROM agent_sessions
WHERE status = 'active'
AND room_id <> 'chat'
GROUP BY room_id
HAVING COUNT(*) > 1;

-- name: idle_sessions
-- Sessions that should have been ended: nothing was said for more than half an hour.
SELECT session_id, room_id, last_activity
FROM agent_sessions
WHERE status = 'active'
AND last_activity < NOW() - INTERVAL '30 minutes'
ORDER BY last_activity;

-- name: session_latency
-- How long a look-up of sessions takes: under 10 ms, else REINDEX TABLE agent_sessions.
EXPLAIN ANALYZE
SELECT * FROM agent_sessions
WHERE status = 'active'
ORDER BY last_activity DESC
LIMIT 10;

-- name: search_latency
-- How long a search takes: under 50 ms, else index the embeddings.
EXPLAIN ANALYZE
SELECT * FROM rag_documents
ORDER BY embedding <=> (SELECT embedding FROM rag_documents WHERE embedding IS NOT NULL LIMIT 1)
LIMIT 5;

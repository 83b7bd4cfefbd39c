-- The tables, and what keeps them. Safe to run again: what is there already stays as it is.
-- runner/tables.py holds the same tables as SQLModel classes; a test compares the two catalogs.
-- Every time is the database's own NOW() without a zone, so all clients must share one time zone:
-- the server's default, which no client of this program overrides.

CREATE EXTENSION IF NOT EXISTS vector;

-- What the agent is told and how it greets. Read when a call begins: an UPDATE reaches the next
-- caller. In use: is_active AND is_local_mode, the call's language first.
CREATE TABLE IF NOT EXISTS agent_instructions (
    id SERIAL PRIMARY KEY,
    name VARCHAR(255) NOT NULL,
    instructions TEXT NOT NULL,
    is_active BOOLEAN DEFAULT true,
    is_local_mode BOOLEAN DEFAULT false,
    initial_greeting TEXT,
    language VARCHAR(10) DEFAULT 'en',
    created_at TIMESTAMP DEFAULT NOW(),
    updated_at TIMESTAMP DEFAULT NOW()
);

-- Every version of the instructions, whoever changed them: triggers on agent_instructions write it.
CREATE TABLE IF NOT EXISTS agent_instructions_history (
    version SERIAL PRIMARY KEY,
    instructions_id INTEGER NOT NULL,   -- agent_instructions.id, of a row that may be gone
    change VARCHAR(10) NOT NULL,        -- added, changed, removed
    content JSONB NOT NULL,             -- the row after it; removed: before it
    changed_by VARCHAR(255),            -- the role, and the program that it used
    changed_at TIMESTAMP DEFAULT NOW()
);

-- One row a call.
CREATE TABLE IF NOT EXISTS agent_sessions (
    id SERIAL PRIMARY KEY,
    session_id UUID NOT NULL UNIQUE,
    room_id VARCHAR(255),               -- LiveKit room
    participant_id VARCHAR(255),        -- LiveKit participant
    llm_provider VARCHAR(50),
    status VARCHAR(20) DEFAULT 'active', -- active, ended
    context JSONB,
    message_count INTEGER DEFAULT 0,
    created_at TIMESTAMP DEFAULT NOW(),
    last_activity TIMESTAMP DEFAULT NOW(),
    ended_at TIMESTAMP,
    worker_id UUID,                     -- who answers for it while it is active
    job_id VARCHAR(255)                 -- LiveKit job that talks; only the latest may end it
);
ALTER TABLE agent_sessions ADD COLUMN IF NOT EXISTS worker_id UUID;
ALTER TABLE agent_sessions ADD COLUMN IF NOT EXISTS job_id VARCHAR(255);

-- The workers that live. One whose beat stands still is dead, and its sessions are others' to end
-- or to go on with. Who watches measures that with a clock of its own: no clock may jump here.
CREATE TABLE IF NOT EXISTS workers (
    worker_id UUID PRIMARY KEY,
    beat BIGINT NOT NULL DEFAULT 0,     -- counted up every second
    started_at TIMESTAMP DEFAULT NOW(),
    seen_at TIMESTAMP DEFAULT NOW()
);

-- Every message of every call.
CREATE TABLE IF NOT EXISTS conversation_messages (
    id SERIAL PRIMARY KEY,
    session_id UUID REFERENCES agent_sessions(session_id) ON DELETE CASCADE,
    role VARCHAR(20) NOT NULL,          -- user, assistant, system
    content TEXT NOT NULL,
    metadata JSONB,                     -- timings, who served, sources
    created_at TIMESTAMP DEFAULT NOW(),
    message_id UUID UNIQUE              -- a message that is written twice is stored once
);
ALTER TABLE conversation_messages ADD COLUMN IF NOT EXISTS message_id UUID UNIQUE;

-- Chunks of documents with their embeddings.
CREATE TABLE IF NOT EXISTS rag_documents (
    id SERIAL PRIMARY KEY,
    filename VARCHAR(500) NOT NULL,
    content TEXT NOT NULL,
    chunk_index INTEGER NOT NULL,
    total_chunks INTEGER,
    embedding vector(384),              -- all-MiniLM-L6-v2
    file_hash VARCHAR(64),              -- sha256 of the file: unchanged ones are not indexed again
    metadata JSONB,
    created_at TIMESTAMP DEFAULT NOW(),
    updated_at TIMESTAMP DEFAULT NOW(),
    UNIQUE (filename, chunk_index)
);

-- Settings that change while calls run.
CREATE TABLE IF NOT EXISTS system_config (
    key VARCHAR(255) PRIMARY KEY,
    value JSONB NOT NULL,
    description TEXT,
    created_at TIMESTAMP DEFAULT NOW(),
    updated_at TIMESTAMP DEFAULT NOW()
);

-- What operators changed, whichever way it is undone. The programs never change or delete a row.
CREATE TABLE IF NOT EXISTS operator_audit (
    id SERIAL PRIMARY KEY,
    changed_at TIMESTAMP DEFAULT NOW(),
    changed_by VARCHAR(255) NOT NULL,   -- token, loopback
    action VARCHAR(50) NOT NULL,
    subject VARCHAR(500) NOT NULL,      -- a room, file, key, row or provider
    before JSONB,
    after JSONB
);

-- A vector beside its row, not in the TOAST table: exact scans are four times faster.
ALTER TABLE rag_documents ALTER COLUMN embedding SET STORAGE MAIN;

-- A conversation in order.
CREATE INDEX IF NOT EXISTS conversation_messages_session_id_created_at_idx
    ON conversation_messages (session_id, created_at);

-- Who is talking now, and who has been silent too long; no larger than the calls that run.
CREATE INDEX IF NOT EXISTS agent_sessions_active_last_activity_idx
    ON agent_sessions (last_activity) WHERE status = 'active';

-- A caller who comes back to a room is known by it.
CREATE INDEX IF NOT EXISTS agent_sessions_room_id_idx ON agent_sessions (room_id);

-- Words in chunks. Every sign that is neither letter nor digit separates them, so that "E-42" is
-- found by "E 42". New chunks go into the index itself: while they wait in its pending list, a small
-- table is read whole instead, and 200 chunks take 50 ms, in which a caller waits.
CREATE INDEX IF NOT EXISTS rag_documents_content_idx ON rag_documents
    USING gin (to_tsvector('english', regexp_replace(content, '[^[:alnum:]]+', ' ', 'g')));
ALTER INDEX rag_documents_content_idx SET (fastupdate = off);
SELECT gin_clean_pending_list('rag_documents_content_idx');

-- Words in what was said, for the operator's search. Of a very long message the beginning: beyond
-- a megabyte of words PostgreSQL would refuse to store it.
CREATE INDEX IF NOT EXISTS conversation_messages_content_idx ON conversation_messages
    USING gin (to_tsvector('simple', left(content, 10000)));

-- Before schema 5, searches kept what they had found until this told of a change.
DROP TRIGGER IF EXISTS rag_documents_revision ON rag_documents;
DROP FUNCTION IF EXISTS rag_documents_revision();
DELETE FROM system_config WHERE key = 'rag_documents_revision';

-- The latest change of a persona counts, so its time is not left to who makes it.
CREATE OR REPLACE FUNCTION agent_instructions_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := NOW();
    RETURN NEW;
END
$$;

-- Writes the history with the rights of its owner: who may change the instructions need not have
-- any right to the history. Hence no search_path of theirs, either.
CREATE OR REPLACE FUNCTION agent_instructions_remembered() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('INSERT INTO %I.agent_instructions_history
        (instructions_id, change, content, changed_by) VALUES ($1, $2, $3, $4)', TG_TABLE_SCHEMA)
    USING CASE TG_OP WHEN 'DELETE' THEN OLD.id ELSE NEW.id END,
          CASE TG_OP WHEN 'INSERT' THEN 'added' WHEN 'UPDATE' THEN 'changed' ELSE 'removed' END,
          CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END,
          left(concat_ws(', ', session_user, nullif(current_setting('application_name'), '')), 255);
    RETURN NULL;
END
$$;

DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_trigger
        WHERE tgrelid = 'agent_instructions'::regclass AND tgname = 'agent_instructions_changed'
    ) THEN
        CREATE TRIGGER agent_instructions_changed BEFORE UPDATE ON agent_instructions
            FOR EACH ROW WHEN (OLD IS DISTINCT FROM NEW)
            EXECUTE FUNCTION agent_instructions_changed();
        CREATE TRIGGER agent_instructions_remembered AFTER INSERT OR DELETE ON agent_instructions
            FOR EACH ROW EXECUTE FUNCTION agent_instructions_remembered();
        CREATE TRIGGER agent_instructions_versioned AFTER UPDATE ON agent_instructions
            FOR EACH ROW WHEN (OLD IS DISTINCT FROM NEW)
            EXECUTE FUNCTION agent_instructions_remembered();
    END IF;
END
$$;

-- What was there before there was a history is its first version.
INSERT INTO agent_instructions_history (instructions_id, change, content, changed_at)
SELECT id, 'added', to_jsonb(persona), coalesce(updated_at, NOW()) FROM agent_instructions AS persona
WHERE NOT EXISTS (SELECT FROM agent_instructions_history WHERE instructions_id = persona.id);

-- What the program compares with its own: a database that is newer is refused.
COMMENT ON TABLE agent_sessions IS 'runner schema 5';

-- Chunks of a file are found by the index of UNIQUE (filename, chunk_index).
--
-- No index on embedding: an IVFFlat index takes its lists from the rows that are there when it is
-- made, so one made on an empty table finds a sixth of what it should (recall@5 .16, where the
-- exact scan has 1). Below some 10,000 chunks the exact scan takes under 10 ms and misses nothing;
-- beyond that runner/rag/vector_index.py makes an index after the documents are loaded.

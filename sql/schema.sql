-- The five tables. Safe to run again: what is there already stays as it is.
-- runner/store.py holds the same tables as SQLModel classes; a test compares the two catalogs.
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
    ended_at TIMESTAMP
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

-- A vector beside its row, not in the TOAST table: exact scans are four times faster.
ALTER TABLE rag_documents ALTER COLUMN embedding SET STORAGE MAIN;

-- A conversation in order.
CREATE INDEX IF NOT EXISTS conversation_messages_session_id_created_at_idx
    ON conversation_messages (session_id, created_at);

-- Who is talking now, and who has been silent too long; no larger than the calls that run.
CREATE INDEX IF NOT EXISTS agent_sessions_active_last_activity_idx
    ON agent_sessions (last_activity) WHERE status = 'active';

-- Words in chunks. Every sign that is neither letter nor digit separates them, so that "E-42" is
-- found by "E 42".
CREATE INDEX IF NOT EXISTS rag_documents_content_idx ON rag_documents
    USING gin (to_tsvector('english', regexp_replace(content, '[^[:alnum:]]+', ' ', 'g')));

-- Searches keep what they found for as long as the documents stay the same: this tells. The number
-- is that of the transaction, so it is seen together with the change, and written once in it.
CREATE OR REPLACE FUNCTION rag_documents_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO system_config AS config (key, value, description)
    VALUES ('rag_documents_revision', to_jsonb(txid_current()),
            'the transaction that last changed rag_documents')
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = NOW()
    WHERE config.value <> excluded.value;
    RETURN NULL;
END
$$;

DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_trigger
        WHERE tgrelid = 'rag_documents'::regclass AND tgname = 'rag_documents_revision'
    ) THEN
        CREATE TRIGGER rag_documents_revision
            AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON rag_documents
            FOR EACH STATEMENT EXECUTE FUNCTION rag_documents_revision();
    END IF;
END
$$;

-- What the program compares with its own: a database that is newer is refused.
COMMENT ON TABLE agent_sessions IS 'runner schema 2';

-- Chunks of a file are found by the index of UNIQUE (filename, chunk_index).
--
-- No index on embedding: an IVFFlat index takes its lists from the rows that are there when it is
-- made, so one made on an empty table finds a sixth of what it should (recall@5 .16, where the
-- exact scan has 1). Below some 10,000 chunks the exact scan takes under 10 ms and misses nothing;
-- beyond that runner/rag/vector_index.py makes an index after the documents are loaded.

-- Keeping the index on rag_documents.embedding. Each query is named, with a line on what it is for.
-- Placeholders are psycopg's: %(name)s.

-- name: embedding_indexes
-- All approximate indexes on the embeddings; lists: of IVFFlat.
SELECT class.relname AS name, am.amname AS method, pg_index.indisvalid AS valid,
       (SELECT option_value::integer FROM pg_options_to_table(class.reloptions)
        WHERE option_name = 'lists') AS lists
FROM pg_index
JOIN pg_class AS class ON class.oid = pg_index.indexrelid
JOIN pg_am AS am ON am.oid = class.relam
JOIN pg_attribute AS attribute
  ON attribute.attrelid = pg_index.indrelid AND attribute.attnum = pg_index.indkey[0]
WHERE pg_index.indrelid = to_regclass('rag_documents')
  AND attribute.attname = 'embedding' AND am.amname IN ('hnsw', 'ivfflat')
ORDER BY class.relname;

-- name: embedded_chunks
-- How many vectors there are to search.
SELECT count(*) FROM rag_documents WHERE embedding IS NOT NULL;

-- name: allow_build
-- For this transaction: a build takes longer than a query may, is many times slower where its graph
-- does not fit into memory, and keeps to one core, since calls may be running.
SELECT set_config('statement_timeout', '0', true),
       set_config('maintenance_work_mem', %(memory_kb)s::text || 'kB', true),
       set_config('max_parallel_maintenance_workers', '0', true);

-- name: build_hnsw
-- pgvector's defaults in m; twice its width of construction, for a recall above .99.
CREATE INDEX rag_documents_embedding_new ON rag_documents
USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 128);

-- name: take_over
-- The new index answers from here on.
ALTER INDEX rag_documents_embedding_new RENAME TO rag_documents_embedding_idx;

-- name: build_ivfflat
-- Its lists are taken from the rows that are there. :lists is put in by the runner.
CREATE INDEX rag_documents_embedding_new ON rag_documents
USING ivfflat (embedding vector_cosine_ops) WITH (lists = :lists);

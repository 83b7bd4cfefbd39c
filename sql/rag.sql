-- What the documents' indexing asks of rag_documents. Each query is named, with a line
-- on what it is for. Placeholders are psycopg's: %(name)s.

-- name: try_lock
-- One runner indexes at a time; the lock ends with its connection at the latest.
SELECT pg_try_advisory_lock(hashtext('rag_documents'));

-- name: unlock
-- Let the next runner index.
SELECT pg_advisory_unlock(hashtext('rag_documents'));

-- name: indexed_documents
-- Which contents are there, so that unchanged files are not embedded again.
SELECT filename, min(file_hash) AS file_hash
FROM rag_documents
GROUP BY filename;

-- name: delete_document
-- Forget a file that is gone, or make room for its new content.
DELETE FROM rag_documents WHERE filename = %(filename)s;

-- name: insert_chunk
-- One chunk of a file.
INSERT INTO rag_documents
    (filename, content, chunk_index, total_chunks, embedding, file_hash, metadata)
VALUES
    (%(filename)s, %(content)s, %(chunk_index)s, %(total_chunks)s, %(embedding)s::vector,
     %(file_hash)s, %(metadata)s::jsonb);

-- name: copy_document
-- A file that was renamed or copied: the same content need not be embedded twice.
INSERT INTO rag_documents
    (filename, content, chunk_index, total_chunks, embedding, file_hash, metadata)
SELECT %(filename)s, content, chunk_index, total_chunks, embedding, file_hash, metadata
FROM rag_documents
WHERE filename = %(source)s AND file_hash = %(file_hash)s;

-- name: failed_documents
-- Files that could not be indexed. They are not tried again until they change.
SELECT value->>'filename' AS filename, value->>'file_hash' AS file_hash,
       value->>'reason' AS reason
FROM system_config
WHERE starts_with(key, 'rag_failed:');

-- name: record_failure
-- A file that cannot be indexed, why, and how to mend it.
INSERT INTO system_config (key, value, description)
VALUES ('rag_failed:' || md5(%(filename)s::text),
        jsonb_build_object('filename', %(filename)s::text, 'file_hash', %(file_hash)s::text,
                           'reason', %(reason)s::text),
        'a document that could not be indexed')
ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = NOW();

-- name: forget_failure
-- The file is gone, or went in.
DELETE FROM system_config WHERE key = 'rag_failed:' || md5(%(filename)s::text);

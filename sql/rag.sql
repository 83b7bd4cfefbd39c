-- What the documents' index and the search ask of rag_documents. Each query is named, with a line
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

-- name: nearest_chunks
-- The chunks nearest to a question, by cosine. It sorts by the similarity and not by the operator,
-- which keeps an approximate index from answering: the scan is exact. A distance that is no number
-- (a vector of zeros) would come first.
SELECT filename, chunk_index, content, similarity,
       metadata->>'heading' AS heading,
       coalesce((metadata->>'in_code')::boolean, false) AS in_code
FROM (
    SELECT *, 1 - (embedding <=> %(question)s::vector) AS similarity
    FROM rag_documents
    WHERE embedding IS NOT NULL
) AS chunk
WHERE similarity <= 1.001
ORDER BY similarity DESC, filename, chunk_index
LIMIT %(count)s;

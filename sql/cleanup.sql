-- Making room by hand, for psql: nothing here is run by the runner. Each query is named, with a line
-- on what for.
--   psql -d voice_agent -f sql/cleanup.sql

-- name: remove_old_documents
-- Forget the documents of which nothing was indexed in the last 30 days; those that are still in the
-- documents folder come back at the next start.
DELETE FROM rag_documents
WHERE filename NOT IN (
    SELECT DISTINCT filename FROM rag_documents
    WHERE created_at > NOW() - INTERVAL '30 days'
);

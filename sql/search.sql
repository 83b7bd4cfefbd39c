-- What a search asks of rag_documents. Each query is named, with a line on what it is for.
-- Placeholders are psycopg's: %(name)s.

-- name: search_state
-- Which documents there are (the transaction that last changed them), by which index they are
-- found, and which chunks hold words of the question. It needs no embedding, so it is asked while
-- the question's is made.
-- From here on the connection reads indexes so widely: of IVFFlat's lists twice the root of their
-- number, of a common word's chunks only some.
-- How telling words are, whatever their order: a word weighs one part in as many chunks as hold it;
-- one that is in more than common of them says nothing. Chunks of less than half the best weight
-- are left out: for the fusion of ranks a chunk that both lists hold, however low, is better than
-- the best one of this list alone. The expression is that of rag_documents_content_idx, without
-- which no words are looked up.
WITH state AS MATERIALIZED (
    SELECT
        (SELECT value #>> '{}' FROM system_config WHERE key = 'rag_documents_revision') AS revision,
        embedding.method,
        %(hybrid)s AND to_regclass('rag_documents_content_idx') IS NOT NULL AS has_words,
        set_config('hnsw.ef_search', %(ef_search)s::text, false),
        set_config('gin_fuzzy_search_limit', %(fuzzy)s::text, false),
        set_config('ivfflat.probes', ceil(2 * sqrt(coalesce(embedding.lists, 1)))::text, false)
    FROM (SELECT) AS one
    LEFT JOIN (
        SELECT am.amname AS method,
               (SELECT option_value::integer FROM pg_options_to_table(class.reloptions)
                WHERE option_name = 'lists') AS lists
        FROM pg_index
        JOIN pg_class AS class ON class.oid = pg_index.indexrelid
        JOIN pg_am AS am ON am.oid = class.relam
        WHERE class.oid = to_regclass('rag_documents_embedding_idx') AND pg_index.indisvalid
    ) AS embedding ON true
)
SELECT state.revision, state.method, state.has_words, telling.ids, telling.weights
FROM state, LATERAL (
    WITH words AS (
        SELECT unnest(tsvector_to_array(
            to_tsvector('english', regexp_replace(%(text)s::text, '[^[:alnum:]]+', ' ', 'g'))
        )) AS word
        WHERE state.has_words
        LIMIT %(words)s
    ), matches AS (
        SELECT found.id, count(*) OVER (PARTITION BY word) AS holders
        FROM words
        CROSS JOIN LATERAL (
            SELECT id FROM rag_documents
            WHERE to_tsvector('english', regexp_replace(content, '[^[:alnum:]]+', ' ', 'g'))
                  @@ quote_literal(word)::tsquery
            LIMIT %(common)s + 1
        ) AS found
    ), weights AS (
        SELECT id, sum(1.0 / holders)::float8 AS weight
        FROM matches WHERE holders <= %(common)s
        GROUP BY id
    )
    SELECT array_agg(id) AS ids, array_agg(weight) AS weights
    FROM weights WHERE weight >= 0.5 * (SELECT max(weight) FROM weights)
) AS telling;

-- name: nearest
-- The chunks nearest to a question, by cosine; of all documents, or of those whose name holds
-- filename. It sorts by the similarity and not by the operator, which keeps an approximate index
-- from answering: the scan is exact. A distance that is no number (a vector of zeros) would come
-- first.
SELECT * FROM (
    SELECT id, filename, chunk_index, 1 - (embedding <=> %(question)s::vector) AS similarity
    FROM rag_documents
    WHERE embedding IS NOT NULL
      AND (%(filename)s::text = '' OR strpos(lower(filename), lower(%(filename)s::text)) > 0)
) AS chunk
WHERE similarity <= 1.001
ORDER BY similarity DESC, filename, chunk_index
LIMIT %(count)s;

-- name: nearest_by_index
-- The same among all documents, by the index on embedding: as near as it finds.
SELECT id, filename, chunk_index, 1 - distance AS similarity FROM (
    SELECT *, embedding <=> %(question)s::vector AS distance
    FROM rag_documents
    ORDER BY embedding <=> %(question)s::vector
    LIMIT %(count)s
) AS chunk
WHERE distance >= -0.001;

-- name: hits
-- The nearest chunks (by one of the queries above) and those with words (by ids and weights of
-- search_state) as one list, no longer than the longer one: by reciprocal rank fusion where words
-- are looked up, else by similarity.
WITH near AS MATERIALIZED (
    SELECT id, similarity,
           row_number() OVER (ORDER BY similarity DESC, filename, chunk_index) AS place
    FROM ({nearest}) AS nearest
), worded AS MATERIALIZED (
    SELECT id, similarity, by_words,
           row_number() OVER (ORDER BY weight DESC, similarity DESC, filename, chunk_index) AS place
    FROM (
        SELECT *, 1 - (embedding <=> %(question)s::vector) AS similarity,
               weight >= %(telling)s AS by_words
        FROM unnest(%(ids)s::bigint[], %(weights)s::float8[]) AS found(id, weight)
        JOIN rag_documents USING (id)
        WHERE embedding IS NOT NULL
          AND (%(filename)s::text = '' OR strpos(lower(filename), lower(%(filename)s::text)) > 0)
    ) AS chunk
    ORDER BY place
    LIMIT %(count)s
), fused AS (
    SELECT id, near.place,
           coalesce(worded.by_words, false) AS by_words,
           coalesce(near.similarity, worded.similarity) AS similarity,
           coalesce(1 / (%(rrf)s + near.place)::float8, 0)
           + coalesce(1 / (%(rrf)s + worded.place)::float8, 0) AS score
    FROM near FULL JOIN worded USING (id)
    ORDER BY score DESC, near.place, worded.place
    LIMIT (SELECT greatest((SELECT count(*) FROM near), (SELECT count(*) FROM worded)))
)
SELECT filename, chunk_index,
       metadata->>'heading',
       content,
       similarity,
       coalesce((metadata->>'in_code')::boolean, false),
       (metadata->>'page')::integer,
       CASE WHEN %(fused)s THEN score ELSE similarity END,
       by_words
FROM fused JOIN rag_documents USING (id)
ORDER BY score DESC, place, filename, chunk_index;

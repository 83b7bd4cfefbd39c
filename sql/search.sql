-- What a search asks of rag_documents. Each query is named, with a line on what it is for.
-- Placeholders are psycopg's: %(name)s.

-- name: search
-- The chunks that answer a question best, no more than top_k, as one JSON list: those near its
-- embedding and those that hold its words, by reciprocal rank fusion, or where no words are looked
-- up by similarity. What is less similar than least and holds no rare word is left out. The first
-- ranks of each list, so many as count, are fused; the fused list is no longer than the longer one.
-- It is one statement because a caller waits for it: a second one costs as much as it all.
-- The nearest are found by the index that method means where there is one and no filename is asked
-- for. Elsewhere exactly, sorted by the similarity and not by the operator, which keeps an
-- approximate index from answering. A distance that is no number (a vector of zeros) would come
-- first.
-- From here on the connection reads indexes so widely: of IVFFlat's lists twice the root of their
-- number, of a common word's chunks only some.
-- How telling words are, whatever their order: a word weighs one part in as many chunks as hold it;
-- one that is in more than common of them says nothing. Chunks of less than half the best weight
-- are left out: for the fusion of ranks a chunk that both lists hold, however low, is better than
-- the best one of this list alone. The expression is that of rag_documents_content_idx, without
-- which no words are looked up.
WITH state AS MATERIALIZED (
    SELECT
        %(filename)s::text = '' AND coalesce(index.method = %(method)s, false) AS by_index,
        %(hybrid)s AND to_regclass('rag_documents_content_idx') IS NOT NULL AS has_words,
        set_config('hnsw.ef_search', %(ef_search)s::text, false),
        set_config('gin_fuzzy_search_limit', %(fuzzy)s::text, false),
        set_config('ivfflat.probes', ceil(2 * sqrt(coalesce(index.lists, 1)))::text, false)
    FROM (SELECT to_regclass('rag_documents_embedding_idx')::oid AS oid OFFSET 0) AS named
    LEFT JOIN (
        SELECT class.oid, am.amname AS method,
               (SELECT option_value::integer FROM pg_options_to_table(class.reloptions)
                WHERE option_name = 'lists') AS lists
        FROM pg_class AS class
        JOIN pg_index ON pg_index.indexrelid = class.oid
        JOIN pg_am AS am ON am.oid = class.relam
        WHERE pg_index.indisvalid
    ) AS index USING (oid)
), near AS MATERIALIZED (
    SELECT id, similarity,
           row_number() OVER (ORDER BY similarity DESC, filename, chunk_index) AS place
    FROM (
        (SELECT * FROM (
            SELECT id, filename, chunk_index, 1 - (embedding <=> %(question)s::vector) AS similarity
            FROM rag_documents
            WHERE NOT (SELECT by_index FROM state)
              AND embedding IS NOT NULL
              AND (%(filename)s::text = ''
                   OR strpos(lower(filename), lower(%(filename)s::text)) > 0)
        ) AS chunk
        WHERE similarity <= 1.001
        ORDER BY similarity DESC, filename, chunk_index
        LIMIT %(count)s)
        UNION ALL
        SELECT id, filename, chunk_index, 1 - distance FROM (
            SELECT *, embedding <=> %(question)s::vector AS distance
            FROM rag_documents
            ORDER BY embedding <=> %(question)s::vector
            LIMIT %(count)s
        ) AS chunk
        WHERE (SELECT by_index FROM state) AND distance >= -0.001
    ) AS nearest
), words AS (
    SELECT unnest(tsvector_to_array(
        to_tsvector('english', regexp_replace(%(text)s::text, '[^[:alnum:]]+', ' ', 'g'))
    )) AS word
    WHERE (SELECT has_words FROM state)
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
), weights AS MATERIALIZED (
    SELECT id, sum(1.0 / holders)::float8 AS weight
    FROM matches WHERE holders <= %(common)s
    GROUP BY id
), worded AS MATERIALIZED (
    SELECT id, similarity, by_words,
           row_number() OVER (ORDER BY weight DESC, similarity DESC, filename, chunk_index) AS place
    FROM (
        SELECT *, 1 - (embedding <=> %(question)s::vector) AS similarity,
               weight >= %(telling)s AS by_words
        FROM weights JOIN rag_documents USING (id)
        WHERE weight >= 0.5 * (SELECT max(weight) FROM weights)
          AND embedding IS NOT NULL
          AND (%(filename)s::text = '' OR strpos(lower(filename), lower(%(filename)s::text)) > 0)
    ) AS chunk
    ORDER BY place
    LIMIT %(count)s
), fused AS (
    SELECT id, near.place, worded.place AS word_place,
           coalesce(worded.by_words, false) AS by_words,
           coalesce(near.similarity, worded.similarity) AS similarity,
           coalesce(1 / (%(rrf)s + near.place)::float8, 0)
           + coalesce(1 / (%(rrf)s + worded.place)::float8, 0) AS score
    FROM near FULL JOIN worded USING (id)
    ORDER BY score DESC, near.place, worded.place
    LIMIT (SELECT greatest((SELECT count(*) FROM near), (SELECT count(*) FROM worded)))
), best AS (
    SELECT * FROM fused
    WHERE by_words OR similarity >= %(least)s
    ORDER BY score DESC, place, word_place
    LIMIT %(top_k)s
)
SELECT coalesce(json_agg(json_build_object(
    'filename', filename,
    'chunk_index', chunk_index,
    'heading', metadata->>'heading',
    'content', content,
    'similarity', similarity,
    'in_code', coalesce((metadata->>'in_code')::boolean, false),
    'page', (metadata->>'page')::integer,
    'score', CASE WHEN (SELECT has_words FROM state) THEN score ELSE similarity END,
    'by_words', by_words
) ORDER BY score DESC, place, word_place), '[]')
FROM best JOIN rag_documents USING (id);

-- What an operator's page is tried with.
WITH calls AS (
    INSERT INTO agent_sessions
        (session_id, room_id, participant_id, llm_provider, status, message_count, context,
         created_at, ended_at)
    SELECT md5(number::text)::uuid, 'call-' || to_hex(4096 + number * 37),
           CASE WHEN number = 3 THEN %(hostile)s ELSE 'caller-' || to_hex(9000 + number * 71) END,
           CASE number %% 5 WHEN 0 THEN 'ollama' ELSE 'vllm' END, 'ended', 4 + number %% 17,
           '{"language": "en"}', NOW() - number * INTERVAL '23 minutes',
           NOW() - number * INTERVAL '23 minutes' + (60 + number * 7) * INTERVAL '1 second'
    FROM generate_series(%(sessions)s - 1, 1, -1) AS number
), talk AS (
    INSERT INTO agent_sessions
        (session_id, room_id, participant_id, llm_provider, message_count, context, created_at)
    VALUES (%(session)s, 'call-1b83', 'caller-7f21', 'vllm', 4, '{"language": "en"}',
            NOW() - INTERVAL '3 minutes')
), said AS (
    INSERT INTO conversation_messages (session_id, role, content, metadata, created_at)
    SELECT %(session)s::uuid, role, content, metadata::jsonb,
           NOW() - INTERVAL '3 minutes' + number * INTERVAL '9 seconds'
    FROM (VALUES
        (1, 'assistant', 'Hello! How can I help you?', '{"stages_s": {"tts_ttfb": 0.12}}'),
        (2, 'user', 'How long can I return shoes?', '{"stages_s": {"stt": 0.21}}'),
        (3, 'assistant', 'You can return them within thirty days.', %(metadata)s::text),
        (4, 'user', %(hostile)s, NULL)
    ) AS messages (number, role, content, metadata)
), known AS (
    INSERT INTO rag_documents (filename, content, chunk_index, total_chunks, embedding, metadata)
    SELECT filename, content, number, 3, array_fill(0.1, ARRAY[384])::vector, '{}'
    FROM (VALUES
        ('faq.md', 'Shoes run small. ' || %(hostile)s),
        ('returns.pdf', repeat('Goods can be returned within thirty days, unworn. ', 20))
    ) AS texts (filename, content), generate_series(0, 2) AS number
), failed AS (
    INSERT INTO system_config (key, value)
    VALUES ('rag_failed:' || md5('scan-2019.pdf'),
            jsonb_build_object('filename', 'scan-2019.pdf', 'reason', %(scan)s::text))
)
INSERT INTO agent_instructions
    (name, instructions, initial_greeting, language, is_active, is_local_mode)
VALUES ('Laden', 'Du bist die Stimme eines Schuhgeschäfts.', 'Guten Tag!', 'de', true, true);

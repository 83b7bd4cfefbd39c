"""The local model server: Whisper, Piper and MiniLM behind OpenAI's shapes, in one process.

``service`` and ``weights`` are light and may be imported anywhere; everything that imports the
native libraries of extra ``embedded`` is reached through ``server.serve`` alone.
"""

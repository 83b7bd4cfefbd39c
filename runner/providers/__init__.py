"""What serves: one module a kind of STT, TTS or LLM. They know of the configuration at most their
own section."""

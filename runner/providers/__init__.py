"""What serves: one module a kind of STT, TTS or LLM. They know no configuration."""

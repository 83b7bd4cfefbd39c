"""The operator's port: an API with which calls, documents, instructions, settings and providers are
seen and changed, the metrics, and the page that shows all of it."""

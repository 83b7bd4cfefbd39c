"""Documents: read, cut into chunks, embedded, kept in ``rag_documents``, searched."""

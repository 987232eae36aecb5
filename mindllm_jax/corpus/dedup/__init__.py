"""Finding what is there more than once: documents, lines and paragraphs, near-duplicates."""

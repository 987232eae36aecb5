"""Removes duplicates: copies of documents, repeated lines and paragraphs, near-duplicates."""

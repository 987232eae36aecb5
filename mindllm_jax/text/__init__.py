"""Text before any package looks at it: documents and JSON lines, code points, n-grams, sentences."""

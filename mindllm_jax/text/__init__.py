"""Basic operations on text: documents and JSON lines, code points, n-grams, sentences, samples."""

"""Tokenizers: text to token ids and back, training them, reporting on them."""

"""Tokenizers: text to token ids and back, training, and reports."""

"""Decoding with a key-value cache: one engine for evaluation, chat and serving."""

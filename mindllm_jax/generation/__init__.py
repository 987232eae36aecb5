"""Decoding with a key-value cache: one engine under evaluation, chat and serving."""

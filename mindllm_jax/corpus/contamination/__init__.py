"""Detects and removes benchmark items in the training text."""

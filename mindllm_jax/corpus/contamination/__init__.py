"""Benchmark items in the training text: what to look for, and taking it out."""

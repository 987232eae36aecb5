"""Ranking of several models by a judge of their answers to the same prompts."""

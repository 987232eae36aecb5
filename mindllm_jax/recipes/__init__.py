"""Recipes that put rooms together: what proves and measures the project on a machine."""

"""Arithmetic made by rule."""

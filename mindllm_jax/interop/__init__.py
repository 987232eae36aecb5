"""Conversion to and from Hugging Face formats."""

"""Bits per byte, what compressors reach on the same bytes, and benchmark tasks through lm-evaluation-harness."""

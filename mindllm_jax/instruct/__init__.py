"""Instruction tuning: reading conversations, packing them into rows, the run."""

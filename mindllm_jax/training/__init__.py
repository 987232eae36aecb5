"""Optimizer, step, loop, checkpoints, metrics and the arithmetic of cost; no benchmarks."""

"""Optimizer, step, loop, checkpoints, metrics and the arithmetic of cost; knows no benchmark."""

"""Losses and entropies of instruction data under a pre-trained model, kept as raw quantities per conversation."""

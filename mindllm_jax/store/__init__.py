"""The token store: every source's documents as one stream of token ids, and rows of it."""

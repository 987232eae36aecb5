"""The continuation task: which of four texts follows the beginning of a paragraph."""

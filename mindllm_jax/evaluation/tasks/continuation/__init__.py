"""Which of four continuations follows the beginning of a paragraph."""

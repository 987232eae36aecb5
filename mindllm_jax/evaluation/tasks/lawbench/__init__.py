"""LawBench (arXiv 2309.16289): its tasks and their scoring."""

"""The demo: a corpus from pinned sources, instructions and an evaluation task made from it, and a report."""

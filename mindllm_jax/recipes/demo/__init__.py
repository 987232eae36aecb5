"""The demo: a corpus from pinned sources, instructions and a task made from it, and its last page."""

"""Files of published instruction sets, their records, and the shapes that records have."""

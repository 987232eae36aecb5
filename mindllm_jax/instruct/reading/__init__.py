"""Files of published conversations, their records, and the shapes that records have."""

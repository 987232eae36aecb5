"""Blocks: datatrove pipeline steps that mend a document or drop it with a reason. One idea a file."""

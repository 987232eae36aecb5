"""Cleaning filters: datatrove steps that clean a document or drop it for a reason. One idea per file."""

"""Filters: datatrove steps that clean a document or drop it with a reason. One idea a file."""

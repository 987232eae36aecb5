"""Converts published benchmark files to the schema that their data sets have on the hub, one family per module."""

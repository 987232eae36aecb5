"""Instruction sets of a domain: records to conversations by templates, rationales, and scores of labels."""

"""From documents to global batches: tokenizer, token store, mixture, rows, packing. Knows no model."""

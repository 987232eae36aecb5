"""Reports on a corpus: counts by shard, the data card, borderline documents."""

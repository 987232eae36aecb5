"""What a corpus run did: counts by shard, the data card, borderline documents."""

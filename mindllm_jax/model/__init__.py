"""The decoder and its parts in Flax NNX: logical axes only, no data and no mesh."""

"""The decoder and its parts in Flax NNX; names logical axes only, knows no data and no mesh."""

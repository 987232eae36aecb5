"""The mixture: which tokens are row r of a run."""

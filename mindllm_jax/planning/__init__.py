"""What a run needs on hardware that is not here: memory by part, the time of a step, the choice of a mesh."""

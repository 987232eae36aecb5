"""The AOT planner: memory by part, step time and mesh of a run for a target topology."""

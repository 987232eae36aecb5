"""All contact with lm-evaluation-harness: the model that it asks, the tasks that it defines, a task's run."""

"""Task files for lm-evaluation-harness. Their data are local files, which `Evaluate.task_files` names."""

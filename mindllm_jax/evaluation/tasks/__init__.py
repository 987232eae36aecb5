"""Tasks of ours for lm-evaluation-harness. Their data sets, `mindllm/NAME`, are local files in `Evaluate.data`."""

"""An OpenAI-compatible HTTP API over the scheduler of `generation`, and the chat page."""

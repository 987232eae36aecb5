"""The server of a run: an OpenAI-compatible API and the chat page."""

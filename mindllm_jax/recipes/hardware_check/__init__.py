"""The hardware check: its steps, their runner and its page."""

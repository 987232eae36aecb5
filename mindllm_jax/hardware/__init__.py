"""What accelerators can do, and accelerators that are described and not there, for AOT compilation."""

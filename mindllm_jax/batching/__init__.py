"""Global batches over all devices, packing, and the chat format."""

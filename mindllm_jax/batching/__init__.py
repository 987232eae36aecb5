"""Global batches over all devices, packing, array sizes, and the chat format."""

"""The device mesh, the sharding table, and the startup of several processes."""

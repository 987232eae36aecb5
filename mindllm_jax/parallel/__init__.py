"""Mesh, sharding rules, and start-up of several processes."""

"""Peak rates of accelerators, and device topologies for AOT compilation."""

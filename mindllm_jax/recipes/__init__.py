"""Recipes that combine the packages: the demo, the hardware check, the reference of settings."""

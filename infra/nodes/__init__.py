"""Calls to GPU nodes, and the addresses where nodes may be."""

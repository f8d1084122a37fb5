"""Attempts: reading them, and what a node is sent."""

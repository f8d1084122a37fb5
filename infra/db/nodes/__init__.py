"""Nodes: reading them, their beats and their legal transitions."""

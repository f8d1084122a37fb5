"""Tasks: reading them, and their legal transitions."""

"""The data directory: its layout, whether it is ours to use, and where the embedded database is."""

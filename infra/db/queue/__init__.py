"""The queue: its order, places in it, and aging."""

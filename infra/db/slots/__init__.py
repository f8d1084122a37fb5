"""Slots: which node may take which task, and which task gets a slot."""

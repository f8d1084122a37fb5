"""Webhooks and their deliveries: the rows, and what is to be sent now."""

"""Webhooks: where a receiver may be, what it is sent, and how it is signed."""

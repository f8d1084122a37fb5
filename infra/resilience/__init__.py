"""Waiting for what is away, and limits of rate."""

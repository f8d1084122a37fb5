"""Drift and violations, found by reading."""

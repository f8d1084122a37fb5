"""Writes of several tables that must agree: one commit each."""

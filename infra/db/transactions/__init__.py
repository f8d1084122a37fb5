"""Writes that activities and the API call: one commit each."""

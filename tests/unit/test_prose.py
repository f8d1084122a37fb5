"""Turns of phrase that we don't use, in documents and in the docstrings of the folders that are clean already."""

"""The console: pages for people, rendered here, over the functions that the API's routes call (README.md)."""

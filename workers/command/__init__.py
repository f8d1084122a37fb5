"""The commands that call the API, built on the client's core. They start at once: none imports httpx or pydantic."""

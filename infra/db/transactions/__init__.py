"""What activities and the API call to write: one commit each."""

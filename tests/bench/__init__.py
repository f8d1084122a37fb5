"""`make bench`: what the system costs, each figure against a reference measured in the same run on the same server."""

"""The embedded stack: Postgres, Redis and Temporal from installed packages, our programs, and their supervisor."""

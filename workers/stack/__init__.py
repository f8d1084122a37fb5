"""The embedded stack: Postgres, Redis and Temporal from installed packages, our programs, and who keeps them up."""

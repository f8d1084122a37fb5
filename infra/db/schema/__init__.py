"""The schema: tables, migrations and the revision that a program needs."""

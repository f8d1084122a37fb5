"""The jobs of the instance that leads. Those that are more than one call of the database have a file each."""

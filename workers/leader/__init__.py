"""The jobs of the instance that leads, one file each."""

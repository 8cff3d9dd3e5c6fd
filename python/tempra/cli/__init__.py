"""The `tempra` command."""

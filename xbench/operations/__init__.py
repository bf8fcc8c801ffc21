"""Pure functions on pixels, ranks and maps."""

"""Building classifiers from a specification."""

"""Catalogue of metrics, one file a property; discovered, never listed by hand."""

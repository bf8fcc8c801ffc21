"""Catalogue of image sources, one file a source; discovered, never listed by hand."""

"""Catalogue of saliency methods, one file a family; discovered, never listed by hand."""

"""Catalogue of boards: what is ranked, by which metrics and gates; discovered."""

"""Grading metrics on planted truth, and checking what the literature says must reproduce."""

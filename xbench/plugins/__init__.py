"""Methods, metrics and whole catalogues that come from elsewhere: files, functions, objects."""

"""Planning and running a grid of methods and metrics, and the folder that it writes."""

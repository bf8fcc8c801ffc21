"""`xbench train`: the shipped classifiers, and twins of a user's own."""

import typer

train = typer.Typer(help="Train the shipped classifiers anew, or a twin of your own.")

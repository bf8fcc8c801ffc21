"""xbench: which saliency method can you trust, for your model and your images, at what cost?"""

__version__ = "0.1.0"

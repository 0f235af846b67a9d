"""The project's version; everything else reads it here."""

__version__ = "0.1.0"

"""A declarative, config-driven voice agent runner."""

__version__ = "0.1.0"

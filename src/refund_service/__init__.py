"""A refunds and credits service: money is given back once, never lost, and always explained."""

__version__ = "0.1.0"

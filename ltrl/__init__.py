"""Declarative config compiler and job launcher for long-context reinforcement learning of language models."""

__all__ = ["__version__"]

__version__ = "0.1.0"

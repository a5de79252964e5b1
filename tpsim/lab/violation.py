"""What a property raises when it does not hold."""

from __future__ import annotations


class Violation(AssertionError):
    """A property does not hold. The message says in words what differs, and for which case."""

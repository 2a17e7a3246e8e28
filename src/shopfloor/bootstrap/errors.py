"""The one error of the bootstrap."""

from __future__ import annotations


class BootstrapError(Exception):
    """Set-up cannot go on; the text says what is wrong and what to do about it."""

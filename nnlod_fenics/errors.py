"""Errors that a user can cause, reported in one sentence."""

from __future__ import annotations

__all__ = ["InputError", "MissingDependencyError", "NumericalError"]


class InputError(ValueError):
    """An argument, setting or file does not fit; the message names it, what was given and what was expected."""


class MissingDependencyError(ImportError):
    """An optional part of the software stack is not installed; the message says what to install."""


class NumericalError(ArithmeticError):
    """A factorisation or iteration failed; the message names where (the patch, the system)."""

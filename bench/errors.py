"""The errors of the bench: what could not be measured, and why."""

from __future__ import annotations


class BenchError(Exception):
    """A contender or a tool did not do what the measurement needs. The message names it and quotes its output."""


class DocumentError(BenchError):
    """A stored result cannot be read. The message is one line that names the file and what is wrong with it."""

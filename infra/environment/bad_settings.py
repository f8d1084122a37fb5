"""Errors that end a command with one line on standard error."""

from __future__ import annotations


class CannotStart(Exception):
    """{what is missing, and what to do}"""

    exit_status = 1


class BadSettings(CannotStart):
    """{variable}: {what is wrong with it}"""

    exit_status = 2

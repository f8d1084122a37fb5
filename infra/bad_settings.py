"""Settings that can't work, one line each; every command ends with it and exit status 2."""

from __future__ import annotations


class BadSettings(Exception):
    """{variable}: {what is wrong with it}"""

    exit_status = 2

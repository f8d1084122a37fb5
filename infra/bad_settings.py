"""Settings that cannot work, one line each. Every command ends with this error and exit status 2."""

from __future__ import annotations


class BadSettings(Exception):
    """{variable}: {what is wrong with it}"""

    exit_status = 2

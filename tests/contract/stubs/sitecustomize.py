"""Lets NeMo-RL, written for Python 3.13, be imported by 3.11.

Before 3.12 pydantic refuses `typing.TypedDict`, which NeMo-RL uses in its configuration; `typing_extensions` has the
same class in a form that it takes.
"""

import sys

if sys.version_info < (3, 12):
    import typing

    import typing_extensions

    typing.TypedDict = typing_extensions.TypedDict

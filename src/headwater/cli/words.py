"""The command's words for what errors name as Python's arguments."""

from __future__ import annotations

_WORDS = {
    "timestamp_column=…": "--timestamp COLUMN",
    "at=…": "--at TIME",
    "full_names=True (the headwater command: --full-names)": "--full-names",
}
"""Python's → the command's."""


def in_the_commands_words(message: str) -> str:
    """An error's message with the options of the command in place of Python's arguments."""
    for python, option in _WORDS.items():
        message = message.replace(python, option)
    return message

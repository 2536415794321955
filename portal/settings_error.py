"""The error of a bad setting. Apart from the settings, which take most of a command's first tenth of a second."""

from __future__ import annotations


class SettingsError(ValueError):
    """A setting is missing, unknown or badly typed; the message names it and says what is expected."""

"""What stops a start."""

from __future__ import annotations

from portal.env import SettingsError


class StartError(SettingsError):
    """Corral can't start; the message is one sentence for the console that names the remedy."""

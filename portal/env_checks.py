"""What settings can't be, although their types are right. Imports nothing of Django, as ``portal.env``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from accounts.oidc import find_provider_fault
from instances.domain.matrix import Matrix, MatrixError
from instances.domain.names import find_name_fault
from portal.settings_error import SettingsError

if TYPE_CHECKING:  # it imports this module
    from portal.env import Settings


def parse_port_range(text: str) -> tuple[int, int]:
    """Read ``8000-9000`` (or with a comma) into its two ends; raise SettingsError unless they are ports and rise."""
    parts = text.replace(",", "-").split("-")
    try:
        first, last = (int(part) for part in parts)
    except ValueError:
        raise SettingsError(f"CORRAL_PORT_RANGE must look like 8000-9000, not {text!r}.") from None
    if not 1 <= first <= last <= 65535:
        raise SettingsError(f"CORRAL_PORT_RANGE must be two rising ports between 1 and 65535, not {text!r}.")
    return first, last


def check_values(settings: Settings) -> None:
    """Raise SettingsError for a value that has the right type and still can't be meant."""
    parse_port_range(settings.port_range)
    if settings.log_level.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise SettingsError(f"CORRAL_LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR, not {settings.log_level!r}.")
    if not settings.host:
        raise SettingsError("CORRAL_HOST is empty; 0.0.0.0 listens on every address, 127.0.0.1 on this machine alone.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", settings.node):
        raise SettingsError(f"CORRAL_NODE must be letters, digits, dots and dashes, not {settings.node!r}.")
    if settings.redis_url and not settings.redis_url.startswith(("redis://", "rediss://", "unix://")):
        raise SettingsError(
            "CORRAL_REDIS_URL must look like redis://:password@host:6379/0, rediss://... or unix://path."
        )
    if settings.database_url and not settings.database_url.startswith(("postgres://", "postgresql://", "sqlite:///")):
        raise SettingsError(
            "CORRAL_DATABASE_URL must look like postgres://user:password@host:5432/name or sqlite:///path."
        )
    if settings.registration not in {"off", "approval", "open"}:
        raise SettingsError(f"CORRAL_REGISTRATION must be off, approval or open, not {settings.registration!r}.")
    if fault := find_provider_fault(settings.oidc_providers):
        raise SettingsError(f"CORRAL_OIDC_PROVIDERS can't be used: {fault}.")
    check_swap_policy(settings)
    for network in settings.trusted_proxies:
        if not is_network(network):
            raise SettingsError(f"CORRAL_TRUSTED_PROXIES must be networks such as 10.0.0.0/8, not {network!r}.")
    if not is_time_zone(settings.time_zone):
        raise SettingsError(f"CORRAL_TIME_ZONE must be a name such as Europe/Berlin, not {settings.time_zone!r}.")


def check_swap_policy(settings: Settings) -> None:
    """Raise SettingsError when groups or the matrix can't be meant."""
    for name in settings.groups:
        if fault := find_name_fault(name):
            raise SettingsError(f"CORRAL_GROUPS has a group {name!r} that no instance can belong to: {fault}.")
    if not settings.matrix.is_given:
        return
    if settings.groups:
        raise SettingsError("CORRAL_GROUPS and CORRAL_MATRIX are two ways to say the same; set one of them.")
    try:
        Matrix(settings.matrix)
    except MatrixError as error:
        raise SettingsError(f"CORRAL_MATRIX can't be used: {error}.") from None


def is_time_zone(name: str) -> bool:
    """Tell whether this system knows the time zone; UTC is known everywhere."""
    if name == "UTC":
        return True
    import zoneinfo  # noqa: PLC0415  costs memory, and most installations leave UTC

    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def is_network(text: str) -> bool:
    """Tell whether a text is an address or a network."""
    import ipaddress  # noqa: PLC0415  most installations name none

    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True

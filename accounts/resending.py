"""Forms whose answer shows a secret: a reload of the answer sends them again, and must not make another one."""

from __future__ import annotations

import hashlib

from django.http import HttpRequest

REMEMBERED = 20
SENT = "forms_sent"


def was_sent(request: HttpRequest) -> bool:
    """Whether this very form was carried out before in this session."""
    return digest_of(request) in request.session.get(SENT, ())


def note_sent(request: HttpRequest) -> None:
    """Keep that the form was carried out."""
    digest = digest_of(request)
    if digest:
        request.session[SENT] = [*request.session.get(SENT, ()), digest][-REMEMBERED:]


def digest_of(request: HttpRequest) -> str:
    """Return what tells a form that is sent again from another one of the same content: its token is new each time.

    Empty without a token, as then nothing tells them apart.
    """
    if "csrfmiddlewaretoken" not in request.POST:
        return ""
    return hashlib.sha256(f"{request.path}?{request.POST.urlencode()}".encode()).hexdigest()

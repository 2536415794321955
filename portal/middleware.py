"""What is done to every answer of Django."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction

from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

Next = Callable[[HttpRequest], HttpResponseBase] | Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@sync_and_async_middleware
def secure_cookies(get_response: Next) -> Next:
    """Keep cookies that were set over TLS to TLS, also where the setting ``https`` was forgotten."""
    if iscoroutinefunction(get_response):

        async def answer_later(request: HttpRequest) -> HttpResponseBase:
            return mark_cookies(request, await get_response(request))

        return answer_later

    def answer(request: HttpRequest) -> HttpResponseBase:
        return mark_cookies(request, get_response(request))  # type: ignore[arg-type]  # not a coroutine, as asked above

    return answer


def mark_cookies(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Mark the cookies of an answer as secure when the request came over TLS."""
    if request.is_secure():
        for cookie in response.cookies.values():
            cookie["secure"] = True
    return response

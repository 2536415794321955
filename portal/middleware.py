"""What is done to every answer of Django."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

Next = Callable[[HttpRequest], HttpResponseBase] | Callable[[HttpRequest], Awaitable[HttpResponseBase]]
Change = Callable[[HttpRequest, HttpResponseBase], HttpResponseBase]


def after_answering(change: Change) -> Callable[[Next], Next]:
    """Return a middleware that changes answers."""

    @sync_and_async_middleware
    def middleware(get_response: Next) -> Next:
        if iscoroutinefunction(get_response):

            async def answer_later(request: HttpRequest) -> HttpResponseBase:
                return change(request, await get_response(request))

            return answer_later

        def answer(request: HttpRequest) -> HttpResponseBase:
            return change(request, get_response(request))  # type: ignore[arg-type]  # not a coroutine, as asked above

        return answer

    return middleware


def mark_cookies(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Keep cookies that were set over TLS to TLS, also where the setting ``https`` was forgotten."""
    if request.is_secure():
        for cookie in response.cookies.values():
            cookie["secure"] = True
    return response


def explain_wrong_method(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Say in an answer 405 that has no body which methods there are."""
    if response.status_code == 405 and isinstance(response, HttpResponse) and not response.content:
        response.content = f"{request.method} can't be used here. Use {response.get('Allow', 'another method')}.\n"
        response["Content-Type"] = "text/plain; charset=utf-8"
    return response


secure_cookies = after_answering(mark_cookies)
explain_methods = after_answering(explain_wrong_method)

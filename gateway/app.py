"""The gateway's ASGI application, and how it is put together.

    application = build_gateway(
        config,
        next_app=channels_and_django,
        redis_url=redis_url,
        load_snapshot=gateway.loader.load_snapshot,
        find_principal=gateway.loader.find_principal,
        channel_layer=channels.layers.get_channel_layer(),
        session_principal=find_session_principal,
    )

Nothing here imports Django: what reads the database is handed in and runs in worker threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from gateway.accounting import Recorder, UsageReader, end_reading, next_request_id
from gateway.activity import Activity
from gateway.asgi import ASGIApp, Receive, Scope, Send
from gateway.authenticate import Authenticator, SessionLookUp
from gateway.broker import make_broker
from gateway.commands import Commands, NoCommands
from gateway.config import GatewayConfig
from gateway.control import ControlRoutes
from gateway.cors import CorsPolicy, is_preflight
from gateway.demand import Demand
from gateway.direct import DirectWay
from gateway.dispatch import Dispatcher, Part, choose_usual_form, is_for_anthropic, passes_any_method
from gateway.error_form import answer_error
from gateway.errors import ClientGone, GatewayError
from gateway.exchange import Exchange
from gateway.forward import Forwarder
from gateway.inference import InferenceRoutes
from gateway.inner_models import InnerModels
from gateway.instance_proxy import InstanceProxyRoutes
from gateway.keys import KeyCache
from gateway.limits import Limits
from gateway.llama_cpp import LlamaCppRoutes
from gateway.metrics import Metrics, Rendering, refuse_rendering, render_metrics
from gateway.model_list import ModelList
from gateway.model_proxy import ModelProxyRoutes
from gateway.passage import Client
from gateway.peers import Peers
from gateway.pool import ConnectionPool
from gateway.quotas import NO_QUOTA_SOURCE, QuotaBook, QuotaSource
from gateway.report import Reporter, name_process
from gateway.router_mode import RouterModeRoutes
from gateway.routes import RouteTable
from gateway.runtime import EventLayer, Runtime
from gateway.scrape import ScrapeRoute
from gateway.serving import Serving
from gateway.sockets import SocketRoutes, handles_socket
from gateway.structs import Principal, Snapshot

logger = logging.getLogger(__name__)

_DATABASE_THREADS = 4


def discard(exchange: Exchange) -> None:
    """Accounting for those who want none."""


class GatewayApp:
    """Answers what it handles, runs its background work for as long as the server runs, passes everything else on.

    A server without lifespan events starts the background work with the first request. `finish` is called with every
    exchange when it is over, whatever came of it; it must be quick and must not raise.
    """

    def __init__(
        self,
        *,
        next_app: ASGIApp,
        runtime: Runtime,
        cors: CorsPolicy,
        serving: Serving,
        dispatcher: Dispatcher,
        sockets: SocketRoutes,
        activity: Activity,
        pool: ConnectionPool,
        close: Callable[[], Awaitable[None]],
        finish: Callable[[Exchange], None],
        recorder: Recorder | None,
    ) -> None:
        self.activity = activity
        self.demand = serving.demand
        self.pool = pool
        self._next_app = next_app
        self.runtime = runtime
        self._cors = cors
        self._dispatcher = dispatcher
        self._sockets = sockets
        self._close = close
        self._finish = finish
        self._recorder = recorder
        self._direct = DirectWay(
            serving,
            open_exchange=self._open_exchange,
            complete=partial(self._complete, dispatcher.inference),
            conclude=finish,
        )
        self._is_started = False
        self._starting = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        kind = scope["type"]
        part = self._dispatcher.find(scope["path"]) if kind == "http" else None
        if part is not None:
            if not self._is_started:
                await self.start()
            self._direct.catch_up()  # who asks for figures after an answer shall find it in them
            await self._serve(part, Exchange(scope, receive, send))
        elif kind == "websocket" and handles_socket(scope["path"]):
            if not self._is_started:
                await self.start()
            await self._carry(self._sockets.open(scope, receive, send))
        elif kind == "lifespan":
            await self._live(receive, send)
        else:
            await self._next_app(scope, receive, send)

    def take(self, client: Client) -> bool:
        """Answer a request for Corral's own server, which offers more than ASGI, without a task if that can be done.

        False says that nothing has happened: the request is to be served as usual.
        """
        return self._is_started and self._direct.take(client)

    async def start(self) -> None:
        """Start the background work, unless it runs already."""
        async with self._starting:
            if not self._is_started:
                await self.runtime.start()
                if self._recorder is not None:
                    self._recorder.start()
                self._is_started = True

    async def stop(self) -> None:
        """End the background work and close what is open; the event loop can be closed afterwards."""
        self._direct.close()
        await self.runtime.stop()
        if self._recorder is not None:
            await self._recorder.stop()
        await self._close()

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _carry(self, exchange: Exchange) -> None:
        exchange.request_id = next_request_id()
        try:
            await self._sockets.serve(exchange)
        finally:
            self.demand.leave(exchange)
            self._finish(exchange)

    def _open_exchange(self, exchange: Exchange) -> None:
        """Give an exchange its id and the headers that every answer to it carries."""
        request_id = exchange.request_id = next_request_id()
        name = request_id.encode()
        extra_headers = exchange.extra_headers = self._cors.answer_headers(exchange.headers)
        extra_headers.append((b"x-request-id", name))
        if is_for_anthropic(exchange):
            extra_headers.append((b"request-id", name))  # Anthropic's name for it

    async def _serve(self, part: Part, exchange: Exchange) -> None:
        self._open_exchange(exchange)
        await self._complete(part, exchange, self._answer(part, exchange))

    async def _answer(self, part: Part, exchange: Exchange) -> None:
        if is_preflight(exchange) or (exchange.method == "OPTIONS" and not passes_any_method(exchange.path)):
            await self._cors.answer_options(exchange)
        else:
            await part.serve(exchange)

    async def _complete(self, part: Part, exchange: Exchange, work: Awaitable[None]) -> None:
        """Await what is left to do for an exchange, and answer what it raises."""
        try:
            await work
        except GatewayError as error:
            await answer_error(exchange, error, choose_usual_form(part, exchange))
        except ClientGone:
            exchange.outcome = "cancelled"
        finally:
            self._leave(exchange)

    def _leave(self, exchange: Exchange) -> None:
        self.demand.leave(exchange)
        if exchange.release is not None:
            exchange.release_body()
        self._finish(exchange)


def build_gateway(
    config: GatewayConfig,
    next_app: ASGIApp,
    redis_url: str,
    *,
    load_snapshot: Callable[[], Snapshot],
    find_principal: Callable[[str], Principal | None],
    channel_layer: EventLayer | None = None,
    session_principal: SessionLookUp | None = None,
    commands: Commands | None = None,
    recorder: Recorder | None = None,
    finish: Callable[[Exchange], None] = discard,
    quota_source: QuotaSource = NO_QUOTA_SOURCE,
) -> GatewayApp:
    """Put a gateway together.

    `load_snapshot` reads every instance, `find_principal` finds a key by its SHA-256 in hex; both run in threads.
    `channel_layer` brings the events (group `events`), `session_principal` finds who is signed in on a page, `commands`
    stops instances, `recorder` keeps a row for each request, `finish` is called with every exchange that is over,
    `quota_source` knows what was recorded: without it whoever is limited is refused. Opens no connection and starts
    nothing; that happens with the first lifespan event or request.
    """
    threads = ThreadPoolExecutor(_DATABASE_THREADS, thread_name_prefix="gateway-database")

    async def load_in_thread() -> Snapshot:
        return await asyncio.get_running_loop().run_in_executor(threads, load_snapshot)

    async def find_in_thread(digest: str) -> Principal | None:
        return await asyncio.get_running_loop().run_in_executor(threads, find_principal, digest)

    routes = RouteTable()
    keys = KeyCache(
        find_in_thread,
        refresh_age_s=config.principal_refresh_age_s,
        max_age_s=config.principal_max_age_s,
        max_entries=config.principal_cache_size,
        hears_of_changes=lambda: not reporter.is_failing,
    )
    pool = ConnectionPool(
        connect_timeout_s=config.connect_timeout_s,
        idle_timeout_s=config.upstream_idle_timeout_s,
        max_idle=config.max_idle_connections,
    )

    def read_again() -> None:
        runtime.catch_up()

    redis = make_broker(redis_url, on_connection=read_again)
    process = name_process()
    reporter = Reporter(redis, process, routes)
    activity = Activity(routes, on_drain=reporter.publish_now, has_waiting=lambda: demand.has_waiting)
    demand = Demand(
        routes,
        queue_limit=config.queue_limit,
        timeout_s=config.on_demand_start_timeout_s,
        on_change=reporter.publish_now,
        limits=Limits(
            Peers(process, lifetime_s=config.peer_lifetime_s),
            make_broker(redis_url),
            answer_within_s=config.redis_answer_within_s,
        ),
    )
    routes.add_listener(reporter.publish_now)
    routes.add_listener(lambda: pool.retain(_list_endpoints(routes)))
    metrics = Metrics(routes, process, count_dropped=lambda: recorder.dropped if recorder is not None else 0)
    quotas = QuotaBook(redis, process, source=quota_source, threads=threads)
    background = {"report": lambda: reporter.run(activity, demand), "quotas": quotas.run}
    if config.has_metrics:
        background["metrics"] = lambda: metrics.run(redis)
    runtime = Runtime(
        routes=routes,
        keys=keys,
        load_snapshot=load_in_thread,
        events=channel_layer,
        background=background,
        announce=reporter.announce,
        is_broker_up=reporter.ping,
        refresh_interval_s=config.refresh_interval_s,
    )
    serving = Serving(
        Authenticator(config, keys, session_principal),
        routes,
        demand,
        Forwarder(pool, activity, UsageReader.for_answer),
        look_again=runtime.look_again,
        max_body_bytes=config.max_body_bytes,
        max_upload_bytes=config.max_upload_bytes,
        spool_folder=config.spool_folder,
        body_memory_bytes=config.body_memory_bytes,
        quotas=quotas,
    )
    commands = commands or NoCommands()

    async def render(accept: str, usable: Callable[[int], bool] | None) -> Rendering:
        if not config.has_metrics:
            return refuse_rendering("CORRAL_METRICS is false")
        return await render_metrics(redis, routes, accept, usable)

    dispatcher = Dispatcher(
        inference=InferenceRoutes(serving, ModelList(routes, InnerModels(pool))),
        llama_cpp=LlamaCppRoutes(serving),
        model_proxy=ModelProxyRoutes(serving, commands),
        instance_proxy=InstanceProxyRoutes(serving),
        router_mode=RouterModeRoutes(serving, commands),
        control=ControlRoutes(serving, commands),
        scrape=ScrapeRoute(serving, render),
    )

    def conclude(exchange: Exchange) -> None:
        end_reading(exchange)
        quotas.conclude(exchange)
        if config.has_metrics:
            metrics.observe(exchange)
        if recorder is not None:
            recorder.record(exchange)
        finish(exchange)

    async def close() -> None:
        pool.close()
        threads.shutdown(wait=False)
        await redis.aclose()

    return GatewayApp(
        next_app=next_app,
        runtime=runtime,
        cors=CorsPolicy(config.allowed_origins),
        serving=serving,
        dispatcher=dispatcher,
        sockets=SocketRoutes(serving, activity),
        activity=activity,
        pool=pool,
        close=close,
        finish=conclude,
        recorder=recorder,
    )


def _list_endpoints(routes: RouteTable) -> set[tuple[str, int]]:
    return {(route.host, route.port) for route in routes.by_id.values() if route.is_routable}

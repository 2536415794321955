"""The short way of a request: sent on where it was parsed, its answer sent on where that was parsed, without a task.

Most requests need nothing that takes time: the body is here, the key is known, the instance is ready. A task, its
futures and the turns of the event loop that they take would cost as much as all the rest; only a new connection to the
instance takes a task. This way knows no rules of its own: it asks the same functions as `gateway.inference` and
`gateway.forward` do, and whenever something else would have to wait, is refused or fails, those take over from that
point on. What follows from a head alone is kept with the head (`gateway.facts`), and what was read in one turn of the
event loop is sent on at its end (`gateway.turns`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway.exchange import Exchange
from gateway.facts import RequestFacts, SentHead
from gateway.guards import guard_body
from gateway.named import name_body
from gateway.passage import Client, Passage
from gateway.serving import Serving
from gateway.transfer import Transfer
from gateway.turns import TurnQueue


class DirectWay:
    """Carries the requests that can go this way.

    `open_exchange` prepares an exchange, `complete` awaits what is left to do for one and answers what that raises,
    `conclude` is called with those that end here.
    """

    def __init__(
        self,
        serving: Serving,
        *,
        open_exchange: Callable[[Exchange], None],
        complete: Callable[[Exchange, Awaitable[None]], Awaitable[None]],
        conclude: Callable[[Exchange], None],
    ) -> None:
        self.forwarder = serving.forwarder
        self.complete = complete
        self.conclude = conclude
        self.open: set[Passage] = set()
        self.turns = TurnQueue()
        self._authenticator = serving.authenticator
        self._routes = serving.routes
        self._demand = serving.demand
        self._open_exchange = open_exchange

    def take(self, client: Client) -> bool:
        """Send the request on if it can go this way. Otherwise nothing has happened, and the client is to be served."""
        try:
            transfer = self._prepare(client)
        except Exception:  # noqa: BLE001  who serves the client finds the same, and answers it
            return False
        if transfer is None:
            return False
        client.drop_body()
        self._open_exchange(transfer.exchange)
        Passage(self, client, transfer).begin()
        return True

    def _prepare(self, client: Client) -> Transfer | None:
        head = client.head
        facts = None if head is None else head.facts
        if facts is None:
            facts = RequestFacts(client.scope)
            if head is not None:
                head.facts = facts
        if not facts.can_go_directly or not self._routes.is_loaded:
            return None
        principal = self._authenticator.recall_inference(facts.digest)
        if principal is None or principal.quotas:
            return None  # the totals that a quota needs may have to be asked for first
        named = name_body(facts.content_type, client.peek_body(), "")
        found = self._routes.resolve_model(named.model)
        if found is None:
            return None
        route, wanted = found
        exchange = Exchange(client.scope, client.receive, client.send)
        if not principal.may_use(route.instance_id) or not self._demand.is_open(exchange, route):
            return None
        exchange.principal, exchange.model = principal, named.model
        body = guard_body(route, named.ask_for(wanted))
        sent, host = facts.sent, exchange.client_host
        if sent is None or sent.route is not route or sent.client_host != host:
            open_head = self.forwarder.write_head(exchange, route, facts.raw_path, facts.query)
            sent = facts.sent = SentHead(route, host, open_head)
        return Transfer(exchange, route, facts.raw_path, sent.open_head, body)

    def catch_up(self) -> None:
        """Account for what is over."""
        self.turns.catch_up()

    def close(self) -> None:
        """Break off what is still on its way, and account for what is over."""
        for passage in list(self.open):
            passage.transfer.exchange.abandon()
        self.turns.close()

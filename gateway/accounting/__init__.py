"""Who used what: reading usage from answers, and recording requests. Nothing here imports Django.

The forwarder makes a reader when an answer's head has come, and feeds it with each piece after that was sent on:

    exchange.usage_reader = UsageReader.for_answer(path, connection.headers, method=exchange.method, status=status)
    ...
    if reader is not None:
        reader.feed(data)

When the exchange is over, `Recorder.record` (the gateway's `finish` hook) ends the reading and keeps an entry;
`end_reading` does the first alone, for others who want `exchange.usage` earlier. The recorder's thread hands entries in
batches to `write`, which is `gateway.ledger.write_requests` in service.
"""

from __future__ import annotations

from gateway.accounting.entry import RequestEntry, end_reading, next_request_id
from gateway.accounting.reader import UsageReader
from gateway.accounting.recorder import Recorder
from gateway.accounting.usage import Usage

__all__ = ["Recorder", "RequestEntry", "Usage", "UsageReader", "end_reading", "next_request_id"]

"""Metrics for Prometheus: counted in memory, added up in Redis over all web processes, rendered on request.

How it is wired, in each web process:

    metrics = Metrics(routes, name_process(), count_dropped=lambda: recorder.dropped)
    metrics.observe(exchange)                  # once for each finished exchange, where the accounting is called as well
    task = create_task(metrics.run(redis))     # for as long as the gateway runs; cancel it before Redis is closed
    answer = await render_metrics(redis, routes, accept, usable)    # GET /metrics: status, content type, body

With `CORRAL_METRICS=false` none of this is made; `GET /metrics` is then answered with
`refuse_rendering("CORRAL_METRICS is false")`. `usable` is None for those who may use every instance and
`principal.may_use` for others. What is kept where, `fields.py` says; why nothing is lost or doubled, `store.py`. The
supervisor adds starts, failures and swaps to the same hash (`instances/supervisor/counting.py`) and leaves a sample of
its node in Redis every few seconds (`instances/supervisor/sampling.py`). Nothing here imports Django.
"""

from __future__ import annotations

from gateway.metrics.metrics import Metrics
from gateway.metrics.rendering import Rendering, refuse_rendering, render_metrics

__all__ = ["Metrics", "Rendering", "refuse_rendering", "render_metrics"]

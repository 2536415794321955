"""``corral up``: one process manager for the embedded Valkey, the web server, the worker and the scheduler.

It is our own and not honcho's, because honcho starts each program through a shell, forks a copy of its Python process
to watch each one (memory), and stops everything as soon as one program ends; here a part that dies is started again.
Nothing in this package imports Django: the manager stays in memory as long as Corral runs.
"""

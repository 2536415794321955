"""Logs of runs: records, files on the node, streams in Redis, and the followers that read them."""

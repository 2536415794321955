"""The process under which each backend runs: it keeps the log, the exit code and the order to stop.

Standard library only, and only its light modules: one shim lives beside every model for as long as the model does.
"""

"""The data plane: one raw ASGI application that carries requests to running instances, without Django in their path."""

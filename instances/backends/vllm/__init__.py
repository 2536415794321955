"""vLLM's OpenAI-compatible server, `vllm serve`."""

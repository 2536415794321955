"""The options of `vllm serve`: type, name | marks, in the order in which arguments are written.

Source: `vllm/engine/arg_utils.py` and `vllm/entrypoints/launchers/cli_args.py`, old and new, as llamactl names them;
`no` marks the booleans that current releases declare with argparse's BooleanOptionalAction (`--no-...`).
`fields.read_table` explains the notation. What loads code, names files to be served, or opens ports is not in `NEWER`:
there it stays an extra argument, which only an administrator may set.
"""

from __future__ import annotations

from instances.backends.fields import read_table

OPTIONS = read_table(
    """
    [server]
    str   host                       | risk=network
    int   port
    [engine]
    str   model                      | maybe basic
    str   tokenizer                  | maybe
    bool  skip_tokenizer_init        | no
    str   revision
    str   code_revision
    str   tokenizer_revision
    str   tokenizer_mode
    bool  trust_remote_code          | no risk=model-code
    str   download_dir               | file risk=files
    str   load_format                | risk=code
    str   config_format
    str   dtype
    str   kv_cache_dtype
    str   quantization_param_path    | file
    int   seed
    int   max_model_len              | suffixes words=auto:-1
    str   guided_decoding_backend
    str   distributed_executor_backend | risk=code
    bool  worker_use_ray             | risk=code
    bool  ray_workers_use_nsight     | no risk=code
    int   block_size
    bool  enable_prefix_caching      | no
    bool  disable_sliding_window     | no
    bool  use_v2_block_manager
    int   num_lookahead_slots
    float swap_space
    float cpu_offload_gb
    float gpu_memory_utilization     | basic
    int   num_gpu_blocks_override
    int   max_num_batched_tokens     | suffixes
    int   max_num_seqs
    int   max_logprobs
    bool  disable_log_stats
    str   quantization
    str   rope_scaling
    float rope_theta
    bool  enforce_eager              | no
    int   max_context_len_to_capture
    int   max_seq_len_to_capture
    bool  disable_custom_all_reduce  | no
    int   tokenizer_pool_size        | risk=code
    str   tokenizer_pool_type        | risk=code
    str   tokenizer_pool_extra_config | maybe risk=code
    bool  enable_lora_bias
    int   lora_extra_vocab_size
    int   lora_rank
    int   prompt_lookback_distance
    str   preemption_mode
    int   tensor_parallel_size       | basic
    int   pipeline_parallel_size
    int   max_parallel_loading_workers
    bool  disable_async_output_proc
    str   worker_class               | risk=code
    str   enabled_lora_modules       | maybe
    int   max_lora_rank
    bool  fully_sharded_loras        | no
    list  lora_modules               | maybe form=words
    list  prompt_adapters            | maybe form=words
    int   max_prompt_adapter_token
    str   device
    float scheduler_delay
    bool  enable_chunked_prefill     | no
    str   speculative_model          | maybe
    str   speculative_model_quantization
    str   speculative_revision
    int   speculative_max_model_len
    int   speculative_disable_by_batch_size
    int   ngpt_speculative_length
    bool  speculative_disable_mqa
    str   model_loader_extra_config  | maybe risk=code
    str   ignore_patterns
    str   preloaded_lora_modules     | maybe
    [server]
    str   uds                        | file risk=network
    str   uvicorn_log_level
    str   response_role
    str   ssl_keyfile                | file risk=network
    str   ssl_certfile               | file risk=network
    str   ssl_ca_certs               | file risk=network
    int   ssl_cert_reqs              | risk=network
    str   root_path                  | risk=network
    list  middleware                 | maybe risk=code
    bool  return_tokens_as_token_ids | no
    bool  disable_frontend_multiprocessing
    bool  enable_auto_tool_choice    | no
    str   tool_call_parser
    str   tool_server                | risk=fetch
    str   chat_template              | template
    str   chat_template_content_format
    bool  allow_credentials          | no
    list  allowed_origins            | form=json
    list  allowed_methods            | form=json
    list  allowed_headers            | form=json
    list  api_key                    | form=words
    bool  enable_log_outputs         | no
    bool  enable_token_usage
    bool  enable_async_engine_debug
    bool  engine_use_ray             | risk=code
    bool  disable_log_requests       | no
    int   max_log_len
    [engine]
    str   task
    str   multi_modal_config         | risk=code
    str   limit_mm_per_prompt
    bool  enable_sleep_mode          | no
    bool  enable_chunking_request
    str   compilation_config         | risk=code
    bool  disable_sliding_window_mask
    bool  enable_trtllm_engine_latency
    str   override_pooling_config
    str   override_neuron_config     | risk=code
    int   override_kv_cache_align_size
    """
)

NEWER = read_table(
    """
    [engine]
    list  served_model_name          | form=words
    str   runner
    str   convert
    str   model_impl
    str   generation_config          | maybe
    str   override_generation_config
    bool  enable_lora                | no
    int   max_loras
    int   max_cpu_loras
    str   lora_dtype
    bool  enable_expert_parallel     | no
    int   decode_context_parallel_size
    str   scheduling_policy
    bool  async_scheduling           | no
    int   stream_interval
    int   max_num_partial_prefills
    int   max_long_partial_prefills
    int   long_prefill_token_threshold
    int   max_cudagraph_capture_size
    int   kv_cache_memory_bytes      | suffixes
    bool  calculate_kv_scales        | no
    str   mamba_cache_dtype
    str   mamba_ssm_cache_dtype
    bool  disable_cascade_attn       | no
    bool  disable_chunked_mm_input   | no
    float mm_processor_cache_gb
    str   mm_encoder_tp_mode
    bool  skip_mm_profiling          | no
    bool  language_model_only        | no
    bool  interleave_mm_strings      | no
    float video_pruning_rate
    str   logprobs_mode
    str   reasoning_parser
    bool  enable_reasoning
    [server]
    bool  enable_prompt_tokens_details | no
    bool  enable_force_include_usage | no
    bool  enable_server_load_tracking | no
    bool  enable_request_id_headers  | no
    bool  enable_log_requests        | no
    bool  enable_log_deltas          | no
    bool  exclude_tools_when_tool_choice_none | no
    bool  disable_uvicorn_access_log | no
    bool  disable_fastapi_docs       | no
    str   default_chat_template_kwargs
    """
)
"""What llamactl doesn't know. Its parse-command puts these into `extra_args`, and so does Corral's; saving sorts."""

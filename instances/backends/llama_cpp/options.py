"""llama-server's options: type, name, aliases | marks, in the order in which arguments are written.

Source: `common/arg.cpp` of llama.cpp, as llamactl names it. `fields.read_table` explains the notation. Options the
engine gained since pass through as extra arguments.
"""

from __future__ import annotations

from instances.backends.fields import read_table

OPTIONS = read_table(
    """
    [common]
    bool  verbose_prompt
    int   threads                    t
    int   threads_batch              tb
    str   cpu_mask                   C
    str   cpu_range                  Cr
    int   cpu_strict
    int   prio
    int   poll
    str   cpu_mask_batch             Cb
    str   cpu_range_batch            Crb
    int   cpu_strict_batch
    int   prio_batch
    int   poll_batch
    int   ctx_size                   c
    int   predict                    n n_predict
    int   batch_size                 b
    int   ubatch_size                ub
    int   keep
    bool  swa_full
    str   flash_attn                 fa | switch
    bool  perf
    bool  no_perf
    bool  escape                     e
    bool  no_escape
    str   rope_scaling
    float rope_scale
    float rope_freq_base
    float rope_freq_scale
    int   yarn_orig_ctx
    float yarn_ext_factor
    float yarn_attn_factor
    float yarn_beta_slow
    float yarn_beta_fast
    bool  kv_offload                 kvo
    bool  no_kv_offload              nkvo
    bool  repack
    bool  no_repack                  nr
    bool  no_host
    str   cache_type_k               ctk
    str   cache_type_v               ctv
    float defrag_thold               dt
    bool  mlock
    bool  mmap
    bool  no_mmap
    bool  direct_io                  dio
    bool  no_direct_io               ndio
    str   numa
    str   device                     dev
    list  override_tensor            ot
    bool  cpu_moe                    cmoe
    int   n_cpu_moe                  ncmoe
    int   gpu_layers                 ngl n_gpu_layers | basic words=auto:-1,all:-2
    str   split_mode                 sm
    str   tensor_split               ts
    int   main_gpu                   mg
    str   fit                        | switch
    str   fit_target                 fitt
    int   fit_ctx                    fitc
    bool  check_tensors
    list  override_kv
    bool  op_offload
    bool  no_op_offload
    list  lora                       | files
    list  lora_scaled                | files
    list  control_vector             | files
    list  control_vector_scaled      | files
    str   control_vector_layer_range | pair
    str   model                      m | file basic
    str   model_url                  mu | risk=fetch
    str   docker_repo                dr | risk=fetch
    str   hf_repo                    hf hfr | basic
    str   hf_repo_draft              hfd hfrd
    str   hf_file                    hff
    str   hf_repo_v                  hfv hfrv
    str   hf_file_v                  hffv
    str   hf_token                   hft
    bool  log_disable
    str   log_file                   | file risk=files
    str   log_colors                 | switch
    bool  verbose                    v log_verbose
    bool  offline
    int   verbosity                  lv log_verbosity
    bool  log_prefix
    bool  log_timestamps
    str   cache_type_k_draft         ctkd
    str   cache_type_v_draft         ctvd
    [sampling]
    str   samplers
    int   seed                       s
    str   sampling_seq               sampler_seq
    bool  ignore_eos
    float temp
    int   top_k
    float top_p
    float min_p
    float top_nsigma
    float xtc_probability
    float xtc_threshold
    float typical
    int   repeat_last_n
    float repeat_penalty
    float presence_penalty
    float frequency_penalty
    float dry_multiplier
    float dry_base
    int   dry_allowed_length
    int   dry_penalty_last_n
    list  dry_sequence_breaker
    float adaptive_target
    float adaptive_decay
    float dynatemp_range
    float dynatemp_exp
    int   mirostat
    float mirostat_lr
    float mirostat_ent
    list  logit_bias                 l
    str   grammar
    str   grammar_file               | file
    str   json_schema                j
    str   json_schema_file           jf | file
    bool  backend_sampling           bs
    [server]
    int   ctx_checkpoints            swa_checkpoints
    int   cache_ram                  cram
    str   lookup_cache_static        lcs | file
    str   lookup_cache_dynamic       lcd | file risk=files
    bool  kv_unified                 kvu
    bool  no_kv_unified              no_kvu
    bool  context_shift
    bool  no_context_shift
    str   reverse_prompt             r
    bool  special                    sp
    bool  warmup
    bool  no_warmup
    bool  spm_infill
    str   pooling
    int   parallel                   np
    bool  cont_batching              cb
    bool  no_cont_batching           nocb
    str   mmproj                     mm | file
    str   mmproj_url                 mmu | risk=fetch
    bool  mmproj_auto
    bool  no_mmproj
    bool  no_mmproj_auto             no_mmproj
    bool  mmproj_offload
    bool  no_mmproj_offload
    int   image_min_tokens
    int   image_max_tokens
    list  override_tensor_draft      otd
    bool  cpu_moe_draft              cmoed
    int   n_cpu_moe_draft            ncmoed
    str   alias                      a
    str   host                       | risk=network
    int   port
    str   path                       | file risk=network
    str   api_prefix                 | risk=network
    str   webui_config               | risk=network
    str   webui_config_file          | file risk=network
    bool  webui
    bool  no_webui
    bool  embedding                  embeddings
    bool  reranking                  rerank
    str   api_key
    str   api_key_file               | file risk=network
    str   ssl_key_file               | file risk=network
    str   ssl_cert_file              | file risk=network
    str   chat_template_kwargs
    int   timeout                    to
    int   threads_http
    bool  cache_prompt
    bool  no_cache_prompt
    int   cache_reuse
    bool  metrics
    bool  props
    bool  slots
    bool  no_slots
    str   slot_save_path             | file risk=files
    str   media_path                 | file risk=files
    str   models_dir                 | file
    str   models_preset              | file basic risk=code
    int   models_max
    bool  models_autoload
    bool  no_models_autoload
    bool  jinja
    bool  no_jinja
    str   reasoning_format
    int   reasoning_budget
    str   chat_template
    str   chat_template_file         | file
    bool  prefill_assistant
    bool  no_prefill_assistant
    float slot_prompt_similarity     sps
    bool  lora_init_without_apply
    int   sleep_idle_seconds
    int   threads_draft              td
    int   threads_batch_draft        tbd
    int   draft_max                  draft draft_n
    int   draft_min                  draft_n_min
    float draft_p_min
    int   ctx_size_draft             cd
    str   device_draft               devd
    int   gpu_layers_draft           ngld n_gpu_layers_draft | words=auto:-1,all:-2
    str   model_draft                md | file
    str   spec_replace               | pair
    str   spec_type
    int   spec_ngram_size_n
    int   spec_ngram_size_m
    float spec_ngram_check_rate
    int   spec_ngram_min_hits
    str   model_vocoder              mv | file
    bool  tts_use_guide_tokens
    [presets]
    bool  embd_gemma_default
    bool  fim_qwen_1b                fim_qwen_1
    bool  fim_qwen_1_5b_default      | flag=--fim-qwen-1.5b-default
    bool  fim_qwen_3b_default
    bool  fim_qwen_7b_default
    bool  fim_qwen_7b_spec
    bool  fim_qwen_14b_spec
    bool  fim_qwen_30b_default
    bool  gpt_oss_20b_default
    bool  gpt_oss_120b_default
    bool  vision_gemma_4b_default
    bool  vision_gemma_12b_default
    """
)

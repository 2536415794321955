"""The options of `mlx_lm.server`: type, name | marks, in the order in which arguments are written.

Source: `mlx_lm/server.py`. `fields.read_table` explains the notation. Models count as files, not as perhaps
repositories, since MLX LM up to 0.31 runs the file that a repository's config.json calls `model_file`, whatever
`trust_remote_code` says (CVE-2026-5843): others than administrators run models of the model folders.
"""

from __future__ import annotations

from instances.backends.fields import read_table

OPTIONS = read_table(
    """
    [server]
    str   model                      | file basic
    str   host                       | risk=network
    int   port
    str   adapter_path               | file
    str   draft_model                | file
    int   num_draft_tokens
    bool  trust_remote_code          | risk=model-code
    str   log_level
    str   chat_template
    bool  use_default_chat_template
    str   chat_template_args
    [sampling]
    float temp                       | basic
    float top_p                      | basic
    int   top_k                      | basic
    float min_p                      | basic
    int   max_tokens                 | basic
    """
)

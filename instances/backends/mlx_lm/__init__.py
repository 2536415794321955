"""MLX LM's `mlx_lm.server`, for Apple silicon and CPUs."""

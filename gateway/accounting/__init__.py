"""Who used what: reading usage from answers, and recording requests. Nothing here imports Django."""

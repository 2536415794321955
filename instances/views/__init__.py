"""The pages about instances: thin, each with its permission, each answering with the page or the part asked for."""

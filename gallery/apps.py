"""The app of models on disk."""

from django.apps import AppConfig


class GalleryConfig(AppConfig):
    """Model files in the allowed folders."""

    name = "gallery"

"""Other names of instances."""

from __future__ import annotations

from django.db import models

from instances.models.instance import Instance


class InstanceAlias(models.Model):
    """One more name of an instance, as its option ``aliases`` lists it; here so that no two instances share one.

    Only ``domain/aliases.py`` writes these rows, in the transaction that writes the option.
    """

    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="+")
    alias = models.CharField(max_length=200, unique=True)

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "instance aliases"

    def __str__(self) -> str:
        return f"{self.alias} for {self.instance}"

"""When keys were last used: kept to a few seconds, so that busy clients cause no write per request."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import datetime, timedelta

from django.db import DatabaseError, transaction
from django.db.models import Q

from accounts.models import ApiKey

logger = logging.getLogger(__name__)

STEP = timedelta(seconds=10)


def note_keys_used(ids: Collection[int], moment: datetime) -> bool:
    """Keep that these keys were used at a moment; what is kept already may be up to ``STEP`` older.

    Two short statements for all of them. Returns False when the database can't at the moment, which is logged and all.
    """
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=moment - STEP)
    rows = ApiKey.objects.filter(stale, pk__in=ids).order_by("pk")
    try:
        with transaction.atomic():
            # Rows that another process is writing to are skipped: it writes the same, and nobody waits for anybody.
            found = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True))
            if found:
                ApiKey.objects.filter(pk__in=found).update(last_used_at=moment)
    except DatabaseError as error:
        logger.warning("When keys were last used can't be kept at the moment: %s", error)
        return False
    return True

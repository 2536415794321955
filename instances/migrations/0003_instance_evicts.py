from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("instances", "0002_instance_aliases")]

    operations = [
        migrations.AddField(
            model_name="instance",
            name="evicts",
            field=models.BooleanField(
                default=True, help_text="The start last asked for may push out another instance."
            ),
        ),
    ]

"""What every model is."""

from __future__ import annotations

from typing import ClassVar

from peewee import Model

from .dialect import database
from .fields import Owned


class Base(Model):
    #: Each table says it.
    owned: ClassVar[Owned]

    class Meta:
        database = database
        legacy_table_names = False

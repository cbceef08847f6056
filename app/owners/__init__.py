"""All that an owner has, in whatever table: export it, erase it.

Which rows of a table belong to whom is said by its model (`owned`), so that a new table is part of both.
"""

from .erasure import Erased, erase
from .exporting import export

__all__ = ["Erased", "erase", "export"]

"""Settings in files, one a file, for what stands in no variable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .errors import Invalid


def read(folder: str, names: Sequence[str]) -> dict[str, str]:
    """What the files in *folder* that are named as these settings are hold, by their names in capitals.

    Raises:
        Invalid: it can't be read.
    """
    if not folder:
        return {}
    try:
        files = {path.name.upper(): path for path in Path(folder).iterdir() if path.is_file()}
        return {name: files[name].read_text("utf-8").strip() for name in names if name in files}
    except (OSError, UnicodeDecodeError) as error:
        # To go on without them would mean another database, or no secret at all.
        raise Invalid(f"SECRETS_DIR can't be read: {error}") from error

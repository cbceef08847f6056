"""What the metrics of this process say, and by how much they moved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from app.observability import metrics


def families(text: bytes | str) -> dict[str, dict[tuple[str, ...], float]]:
    """Samples by family; the key of each is its name and the values of its labels."""
    text = text if isinstance(text, str) else text.decode()
    return {
        family.name: {(sample.name, *sample.labels.values()): sample.value for sample in family.samples}
        for family in text_string_to_metric_families(text)
    }


def samples() -> dict[str, float]:
    """Every sample of this process: `name`, or `name{value,value}` by its labels; buckets are left out."""
    metrics.settle()
    found = {}
    for family in REGISTRY.collect():
        for sample in family.samples:
            if sample.name.startswith("backchat_") and "le" not in sample.labels:
                labels = ",".join(sample.labels.values())
                found[f"{sample.name}{{{labels}}}" if sample.labels else sample.name] = sample.value
    return found


class Moved(dict[str, float]):
    """Samples that have changed, by how much; filled at the end of the block."""


@contextmanager
def moved() -> Iterator[Moved]:
    """What moves within the block."""
    changes, before = Moved(), samples()
    yield changes
    changes.update({name: value - before.get(name, 0) for name, value in samples().items()})
    for name in [name for name, change in changes.items() if change == 0]:
        del changes[name]

"""What a meta-model is: its size, how it was built, and what its card says of its training."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from graphpred.meta.model import MetaModel
from graphpred.report.text import (
    FAINT,
    HEADING,
    Flow,
    Report,
    count,
    heading,
    key_values,
    literal,
    number,
    plain,
    setting,
)

_MOST_ITEMS = 12
_DEEPEST = 6


def model_report(model: MetaModel) -> RenderableType:
    """A model's parameters, its configuration and its card."""
    summary = model_summary(model)
    parameters = summary["parameters"]
    parts = [
        Text(f"Meta-model with {count(parameters['all'], 'parameter')}", style=HEADING),
        Flow([Text(f"{name} {number(n)}") for name, n in parameters.items() if name != "all"]),
        heading("Configuration"),
        *_nested(summary["config"], depth=0),
        heading("Card"),
    ]
    if summary["card"]:
        parts += _nested(summary["card"], depth=0)
    else:
        parts.append(Text("no card: nobody said how it was trained", style=FAINT))
    return Report(*parts)


def model_summary(model: MetaModel) -> dict[str, Any]:
    """The report as plain JSON: ``parameters`` in all and by part, ``config``, ``card``."""
    parameters = {
        name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()
    }
    result: dict[str, Any] = plain(
        {
            "parameters": {"all": sum(p.numel() for p in model.parameters()), **parameters},
            "config": asdict(model.config),
            "card": model.card,
        }
    )
    return result


def _nested(values: Mapping[str, Any], *, depth: int) -> Iterator[RenderableType]:
    """Plain values in one table, each mapping below under its own name, further right."""
    simple: dict[str, RenderableType | None] = {}
    for name, value in values.items():
        if not isinstance(value, Mapping) or not value or depth >= _DEEPEST:
            simple[_word(name)] = _value(value)
    if simple:
        yield _at(depth, key_values(simple))
    for name, value in values.items():
        if isinstance(value, Mapping) and value and depth < _DEEPEST:
            yield _at(depth, Text(literal(_word(name)), style=HEADING))
            yield from _nested(value, depth=depth + 1)


def _at(depth: int, part: RenderableType) -> RenderableType:
    return Padding(part, (0, 0, 0, 2 * depth))


def _word(name: str) -> str:
    return name.replace("_", " ")


def _value(value: Any) -> str:
    """One line for a value: numbers short, of long lists the ends."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_word(key)} {_value(item)}" for key, item in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = [_value(item) for item in value]
        if len(items) > _MOST_ITEMS:
            items = [*items[:3], "…", *items[-3:]]
        deep = any(isinstance(item, Mapping | list) for item in value)
        number_of = f" ({len(value):,} in all)" if len(value) > _MOST_ITEMS else ""
        return (("; " if deep else ", ").join(items) or "none") + number_of
    return value if isinstance(value, str) else setting(value)

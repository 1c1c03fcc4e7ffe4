"""A screen of what runs do: as many lines as fit, the most important first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ltrl.cli.show import duration, printable
from ltrl.cli.show.watch.chart import bounds, chart, number, spark
from ltrl.metrics import FIGURES

if TYPE_CHECKING:
    from ltrl.live import Live
    from ltrl.metrics import FigureName

__all__ = ["frame", "headline", "snapshot"]

STYLES = {
    "RUNNING": "green",
    "COMPLETED": "cyan",
    "PENDING": "yellow",
    "SUBMITTING": "yellow",
    "UNKNOWN": "magenta",
}
"""Of states; every other one is an end that nobody wanted."""

CHARTS: tuple[tuple[FigureName, str], ...] = (
    ("reward", "green"),
    ("outcome", "cyan"),
    ("rubric", "magenta"),
    ("response_tokens", "yellow"),
    ("tokens_per_second", "blue"),
    ("mixed", "white"),
)

NARROW = 60
"""Columns that a run beside others needs at least."""

KEYS = "q leaves; the runs go on"
KEYS_OF_MANY = "tab or arrows: another run; q leaves, the runs go on"


def frame(
    watched: Sequence[Live], *, selected: int, width: int, height: int, trouble: str = "", ascii_: bool = False
) -> list[Text]:
    """At most `height` lines of `width` columns."""
    if width < 1 or height < 1:
        return []
    foot = [
        _fit(Text(trouble, "yellow") if trouble else Text(KEYS_OF_MANY if len(watched) > 1 else KEYS, "dim"), width)
    ]
    room = height - (1 if height > 4 else 0)
    if len(watched) == 1:
        body = _detail(watched[0], width, room, ascii_=ascii_)
    elif width // len(watched) >= NARROW:
        body = _beside(watched, width, room, ascii_=ascii_)
    else:
        listed = _list(watched, selected, width, room if room < 16 else max(3, room // 3), ascii_=ascii_)
        body = listed
        if room - len(listed) > 8:
            body = [*listed, Text(), *_detail(watched[selected], width, room - len(listed) - 1, ascii_=ascii_)]
    body = body[:room]
    return [*body, *foot] if height > 4 else body


def headline(live: Live) -> str:
    """A run in one line without colours."""
    row = live.status
    parts = [f"{row.id}: {row.state}, step {row.step}/{row.steps}"]
    parts += [
        f"{name} {number(value)}"
        for name, figure in (("reward", "reward"), ("accuracy", "outcome"), ("recall", "rubric"))
        if (value := live.recent(figure)) is not None  # type: ignore[arg-type]
    ]
    if row.eta_seconds is not None:
        parts.append(f"{duration(row.eta_seconds)} left")
    parts += [alarm] if (alarm := _alarm(live)) else []
    return printable(", ".join(parts))


def snapshot(live: Live) -> dict[str, Any]:
    """What is shown of a run, for programs."""
    from dataclasses import asdict

    table = live.metrics.validation
    return {
        **live.status.to_json(),
        "stage": live.stage,
        "figures": {name: live.recent(name) for name in FIGURES},
        "validation": {"step": table.steps[-1], **table[table.steps[-1]]} if table.steps else None,
        "gpus": [{"node": node, "gpu": gpu, **asdict(seen)} for (node, gpu), seen in sorted(live.metrics.gpus.items())],
        "checkpoint_age_seconds": live.checkpoint_age_seconds,
        "stalled_seconds": live.stall.seconds if live.stall else None,
        "events": [asdict(event) for event in live.events],
        "log": list(live.log),
    }


def _beside(watched: Sequence[Live], width: int, height: int, *, ascii_: bool) -> list[Text]:
    each = (width - 3 * (len(watched) - 1)) // len(watched)
    blocks = [_detail(live, each, height, ascii_=ascii_) for live in watched]
    bar = Text(" | " if ascii_ else " │ ", "dim")
    lines = []
    for i in range(max(map(len, blocks))):
        lines.append(bar.join(_fit(block[i] if i < len(block) else Text(), each) for block in blocks))
    return lines


def _list(watched: Sequence[Live], selected: int, width: int, height: int, *, ascii_: bool) -> list[Text]:
    first = min(max(0, selected - height // 2), max(0, len(watched) - height))
    shown = watched[first : first + height]
    names = min(max(len(live.status.id) for live in shown), max(8, width // 3))
    lines = []
    for index, live in enumerate(shown, first):
        row = live.status
        line = Text("> " if index == selected else "  ", "bold")
        line.append_text(_fit(Text(printable(row.id), "bold" if index == selected else ""), names))
        line.append(f" {row.state:<10}", _style(live))
        line.append(f" {row.step:>6}/{row.steps:<6} {number(live.recent('reward')):>6} ")
        if (left := width - line.cell_len - 14) > 8:
            values = live.curves["reward"].resampled(min(left, 40))
            low, high = bounds(values)
            line.append(spark(values, low=low, high=high, ascii_=ascii_), "green")
        line.append(f" {_alarm(live) or (duration(row.eta_seconds) if row.eta_seconds is not None else '')}", "dim")
        lines.append(_fit(line, width))
    return lines


def _detail(live: Live, width: int, height: int, *, ascii_: bool) -> list[Text]:
    head = [_title(live), _progress(live, width, ascii_=ascii_)]
    if alarm := _alarm(live):
        head.append(Text(f" {alarm} ", "bold white on red"))
    figures = list(_figures(live))
    events = [_event(event) for event in list(live.events)[-3:]]
    left = height - len(head)
    if left < 12:  # no room for curves
        lines = [*head, *_sparks(live, width, ascii_=ascii_), *figures]
    else:
        log_room = 3 if left < 24 else 6
        for_charts = left - min(len(figures), left // 3) - len(events) - log_room - 2
        charts = _charts(live, width, for_charts, ascii_=ascii_)
        lines = [*head, *charts, *figures[: max(2, left - len(charts) - len(events) - log_room - 2)]]
        if events:
            lines += [_rule("events", width, ascii_=ascii_), *events]
        lines.append(_rule(f"log {live.log_name}", width, ascii_=ascii_))
        lines += [Text(printable(line), "dim") for line in live.log[-max(1, height - len(lines)) :]]
    return [_fit(line, width) for line in lines[:height]]


def _title(live: Live) -> Text:
    row = live.status
    title = Text.assemble((f"{row.state}", f"bold {_style(live)}"), " ", (printable(row.id), "bold"))
    about = [f"attempt {row.attempt}" if row.attempt else "", f"on `{row.cluster}`" if row.cluster else "", live.stage]
    about += [f"job {row.job_id}" if row.job_id else ""]
    about += [f"{name} {state}" for name, state in live.stages]
    if row.reason and row.reason not in (_alarm(live) or ""):
        about.append(row.reason)
    title.append("  " + printable(", ".join(part for part in about if part)), "dim")
    return title


def _progress(live: Live, width: int, *, ascii_: bool) -> Text:
    row = live.status
    text = f" step {row.step}/{row.steps}"
    if row.eta_seconds is not None:
        text += f"  {duration(row.eta_seconds)} left"
    if (seconds := live.recent("seconds")) is not None:
        text += f"  {_seconds(seconds)} a step"
    room = min(60, width - len(text) - 1)
    if room < 8:
        return Text(text.strip())
    done = min(room, row.step * room // row.steps) if row.steps else 0
    full, empty = ("#", ".") if ascii_ else ("━", "─")
    return Text.assemble((full * done, _style(live)), (empty * (room - done), "dim"), text)


def _alarm(live: Live) -> str:
    if live.is_gone:
        return "its directory is gone: this is what was seen last"
    if live.trouble:
        return live.trouble
    if stall := live.stall:
        usual = f"a step takes {_seconds(stall.usual_seconds)}" if stall.usual_seconds else "no step yet"
        return f"stalled: nothing for {duration(stall.seconds)}, {usual}"
    if live.status.state.is_finished and live.status.state != "COMPLETED" and live.status.reason:
        return f"{live.status.reason}; `ltrl why {live.status.id}` says more"
    return ""


def _charts(live: Live, width: int, room: int, *, ascii_: bool) -> list[Text]:
    """Rows of curves: one, two or three beside each other."""
    drawn = [(name, style) for name, style in CHARTS if live.curves[name]]
    if not drawn or room < 3:
        return []
    across = min(len(drawn), max(1, min(3, width // 38)))
    drawn = drawn[: across * (room // 3)]
    down = -(-len(drawn) // across)
    each = min(room // down, 9)
    columns = (width - 2 * (across - 1)) // across
    lines: list[Text] = []
    for first in range(0, len(drawn), across):
        row = [_chart(live, name, style, columns, each, ascii_=ascii_) for name, style in drawn[first : first + across]]
        lines += [Text("  ").join(parts) for parts in zip(*row, strict=True)]
    return lines


def _sparks(live: Live, width: int, *, ascii_: bool) -> Iterator[Text]:
    """The first curves in a line each."""
    for name, style in CHARTS[:3]:
        if live.curves[name] and (room := min(60, width - 23)) > 8:
            values = live.curves[name].resampled(room)
            low, high = bounds(values)
            drawn = spark(values, low=low, high=high, ascii_=ascii_)
            yield Text.assemble(
                (f"{FIGURES[name].title:<15} ", "bold"), f"{_shown(name, live.recent(name)):>5} ", (drawn, style)
            )


def _chart(live: Live, name: FigureName, style: str, width: int, height: int, *, ascii_: bool) -> list[Text]:
    labels = 7
    room = width - labels
    values = live.curves[name].resampled(room * (1 if ascii_ else 2))
    low, high = bounds(values)
    unit = FIGURES[name].unit.replace("share", "")
    title = Text.assemble((FIGURES[name].title, "bold"), f" {_shown(name, live.recent(name))}", (f" {unit}", "dim"))
    drawn = chart(values, width=room, height=height - 1, low=low, high=high, ascii_=ascii_)
    lines = [_fit(title, width)]
    for index, line in enumerate(drawn):
        label = number(high) if index == 0 else number(low) if index == len(drawn) - 1 else ""
        lines.append(_fit(Text.assemble((f"{label:>6} ", "dim"), (line, style)), width))
    return lines


def _shown(name: FigureName, value: float | None) -> str:
    if value is None or FIGURES[name].unit != "share":
        return number(value)
    return f"{value:.0%}" if value == 0 or value >= 0.01 else f"{value:.2%}"


def _figures(live: Live) -> Iterator[Text]:
    """What is said in numbers, a line for each subject; means of the last ten steps."""

    def line(name: str, *parts: str) -> Iterator[Text]:
        if said := [part for part in parts if part]:
            yield Text.assemble((f"{name:<11}", "bold"), ", ".join(said))

    def of(name: FigureName, words: str) -> str:
        value = live.recent(name)
        if value is None:
            return ""
        return words.format(_shown(name, value))

    row = live.status
    yield from line("groups", of("all_one", "all right {}"), of("mixed", "mixed {}"), of("all_zero", "all wrong {}"))
    yield from line(
        "responses",
        of("response_tokens", "{} tokens"),
        of("longest_response_tokens", "longest {}"),
        of("truncated", "cut {}"),
        of("ill_formed", "ill-formed {}"),
        of("unjudged", "unjudged {}"),
    )
    yield from line(
        "policy",
        of("grad_norm", "gradient {}"),
        of("entropy", "entropy {}"),
        of("kl", "KL {}"),
        of("rollout_kl", "rollout KL {}"),
        of("ratio", "ratio {}"),
        of("out_of_band", "out of band {}"),
    )
    yield from line(
        "step",
        of("seconds", "{} s"),
        of("generation_seconds", "generation {}"),
        of("reward_seconds", "scoring {}"),
        of("training_seconds", "training {}"),
        of("tokens_per_second", "{} tokens/s"),
    )
    if gpus := live.metrics.gpus:
        used = [gpu.memory_gb for gpu in gpus.values() if gpu.memory_gb == gpu.memory_gb]  # not NaN
        peak = max((gpu.peak_memory_gb for gpu in gpus.values()), default=0.0)
        busy = [gpu.utilisation for gpu in gpus.values() if gpu.utilisation == gpu.utilisation]
        yield from line(
            "GPUs",
            str(len(gpus)),
            f"memory {max(used):.1f} GB on the fullest, {peak:.1f} at most" if used else "",
            f"busy {sum(busy) / len(busy):.0f}%" if busy else "",
        )
    if row.last_checkpoint is not None:
        age = live.checkpoint_age_seconds
        yield from line("checkpoint", f"step {row.last_checkpoint}", f"{duration(age)} ago" if age is not None else "")
    if live.metrics.validation.steps:
        yield from line("validation", *_validation(live))


def _validation(live: Live) -> Iterator[str]:
    table = live.metrics.validation
    step = table.steps[-1]
    yield f"step {step}"
    now, first = table[step], table[table.steps[0]]
    for tag in [tag for tag in now if tag == "accuracy" or tag.endswith("/accuracy")]:
        name = tag.removesuffix("accuracy").rstrip("/")
        if name and len([tag for tag in now if tag.endswith("/accuracy")]) == 1:
            continue  # one set: the same as all
        began = f" from {first[tag]:.2f}" if tag in first and step != table.steps[0] else ""
        yield f"{name or 'accuracy'} {now[tag]:.2f}{began}"


def _event(event: object) -> Text:
    from ltrl.cli.show.status import clock
    from ltrl.state import Event

    assert isinstance(event, Event)
    text = Text.assemble((clock(event.time), "dim"), f" attempt {event.attempt} {event.state}")
    return text.append(f" {printable(event.detail)}", "dim")


def _rule(name: str, width: int, *, ascii_: bool) -> Text:
    mark = "-" if ascii_ else "─"
    return Text(f"{mark * 2} {printable(name).strip()} ".ljust(width, mark)[:width], "dim")


def _fit(text: Text, width: int) -> Text:
    fitted = text.copy()
    fitted.no_wrap = True
    fitted.truncate(width, overflow="crop", pad=True)
    return fitted


def _style(live: Live) -> str:
    return STYLES.get(str(live.status.state), "red")


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)

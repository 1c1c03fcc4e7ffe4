"""Commands about data: check files of records before GPUs are booked, look at them, count them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltrl.cli import dataset

if TYPE_CHECKING:
    from ltrl.data.digest import Digest
    from ltrl.data.tokens import Counter
    from ltrl.resolve import Resolved

__all__ = ["app"]

app = typer.Typer(name="data", help="Build, check and look at training data.", no_args_is_help=True)
app.command("build")(dataset.build)
app.command("import")(dataset.import_)

Files = Annotated[
    list[Path], typer.Argument(metavar="FILE...", help="Records: JSON Lines, also with gzip, or Parquet.")
]
Tokenizer = Annotated[
    Path | None,
    typer.Option(
        "--tokenizer", metavar="PATH", help="A `tokenizer.json`, or a model's directory; else the spec's model."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Jobs = Annotated[
    int | None, typer.Option("-j", "--jobs", metavar="N", min=1, help="Processes; by default one for each CPU.")
]


@app.command()
def check(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE...]", help="Records; by default the training data of the spec."),
    ] = None,
    spec: Annotated[
        Path | None,
        typer.Option("--spec", metavar="SPEC", help="Experiment whose model and context the data must fit."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Set one field of the spec.")
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            "--against", metavar="FILE", help="An evaluation set that must not be in the data; several may be."
        ),
    ] = None,
    tokenizer: Tokenizer = None,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", metavar="KIND", help="A kind of error that is none here.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=0, help="Findings to show; all are counted.")] = 20,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Find everything in data that would stop or spoil a run; status 1 for errors, doubts alone are 0.

    Writes each file's hash beside it, `FILE.digest.json`: `ltrl compile` puts it into bundles.
    """
    from concurrent.futures import ThreadPoolExecutor

    from ltrl import project
    from ltrl.cli.show import data as shown
    from ltrl.data import check as checks
    from ltrl.data import digest
    from ltrl.data.facts import Looks
    from ltrl.data.scan import available

    if not files and not spec:
        raise typer.BadParameter("name a file, or a spec with `--spec`")
    if wrong := checks.unknown_kind(allow or ()):
        raise typer.BadParameter(wrong, param_hint="--allow")
    home = project.root(spec.parent if spec else Path())
    resolved = _resolved(spec, set_ or []) if spec else None
    train, held_out = _files_of(resolved, home, given=bool(files)) if resolved else ((), {})
    files = files or list(train)
    counted = _counter(resolved, home, tokenizer)
    looks = Looks(
        counted,
        longest=resolved.lengths.prompt if resolved else None,
        policy=resolved.spec.data.train.overlong if resolved else "skip",
        fields=getattr(resolved.spec.data.train, "fields", None) if resolved else None,
    )
    reading = shown.reading([*files, *held_out.values(), *(against or ())])
    with ThreadPoolExecutor(1) as hashing, reading as advance:
        measured = hashing.map(digest.measure, files)
        report = checks.check(
            files,
            looks,
            evaluation={**held_out, **{str(path): path for path in against or ()}},
            jobs=jobs or available(),
            limit=limit,
            allowed=allow or (),
            advance=advance,
        )
    for path, found in zip(files, measured, strict=True):
        _note_digest(path, found, report.usable[path])
    shown.report(report, as_json=as_json)
    if report.num_errors:
        raise typer.Exit(1)


@app.command()
def fetch(
    repo: Annotated[str | None, typer.Argument(metavar="[REPO]", help="Data set: `THU-KEG/LongTraceRL`.")] = None,
    file: Annotated[str, typer.Option("--file", metavar="PATH", help="The file in it.")] = "data.jsonl",
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="REV", help="Commit, tag or branch; by default the newest.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="Put it there, not into the hub's cache.")
    ] = None,
    spec: Annotated[
        Path | None, typer.Option("--spec", metavar="SPEC", help="Fetch what this experiment's `hf` sections name.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch data from the Hugging Face hub, note its hash, and say the commit to write into a spec."""
    from ltrl.cli.show import data as shown
    from ltrl.data import hub

    if (repo is None) == (spec is None):
        raise typer.BadParameter("name a data set, or a spec with `--spec`")
    if spec:
        data = _resolved(spec, []).spec.data
        wanted = {
            (str(found["repo"]), str(found["file"]), str(found["revision"]))
            for section in (data.train, *data.validation.values())
            if section.backend == "hf" and (found := section.model_dump())
        }
        fetched = [hub.fetch(name, path, revision=commit, into=out) for name, path, commit in sorted(wanted)]
    else:
        fetched = [hub.fetch(str(repo), file, revision=revision, into=out)]
    shown.fetched(fetched, as_json=as_json)


@app.command("show")
def show_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Records.")],
    id_: Annotated[str | None, typer.Argument(metavar="[ID]", help="One record; by default all are listed.")] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="OUT", help="Write a page instead.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Print the documents' texts too.")] = False,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=0, help="Records to list.")] = 50,
    as_json: Json = False,
) -> None:
    """Look at one record, or list a file's records: documents by tier, entities marked, what the agent did."""
    from ltrl.cli.show import record as shown
    from ltrl.cli.show import record_html, reward
    from ltrl.data import view

    if id_ is None:
        if html:
            reward.write(html, record_html.index_page(str(file), view.index(file)))
        else:
            shown.listed(view.index(file), limit=limit, as_json=as_json)
        return
    found = view.view(file, id_)
    if html:
        reward.write(html, record_html.record_page(found))
    else:
        shown.record(found, full=full, as_json=as_json)


@app.command()
def stats(
    files: Files,
    spec: Annotated[
        Path | None, typer.Option("--spec", metavar="SPEC", help="Experiment whose model's tokens are counted.")
    ] = None,
    tokenizer: Tokenizer = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="OUT", help="Also write a page.")] = None,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Count records: lengths, tiers, how many documents name an entity, hops, answers; several files side by side."""
    from ltrl import project
    from ltrl.cli.show import data as shown
    from ltrl.cli.show import reward
    from ltrl.cli.show.stats import stats as print_stats
    from ltrl.cli.show.stats import stats_page
    from ltrl.data.facts import Looks
    from ltrl.data.scan import available, scan
    from ltrl.data.stats import Stats

    resolved = _resolved(spec, []) if spec else None
    counted = _counter(resolved, project.root(spec.parent if spec else Path()), tokenizer)
    looks = Looks(counted, rubric=False, overlap=True)
    found = []
    with shown.reading(files) as advance:
        for path in files:
            figures = Stats(str(path), counted.is_exact)
            for facts in scan(path, looks, jobs=jobs or available()):
                figures.add(facts)
                advance(path, facts)
            found.append(figures)
    if html:
        reward.write(html, stats_page(found, counted))
    print_stats(found, counted, as_json=as_json)


def _note_digest(path: Path, found: Digest, num_records: int) -> None:
    """Writes the note about a file; one in a directory that nobody may write to goes without."""
    from dataclasses import replace

    from ltrl.cli import show
    from ltrl.data import digest
    from ltrl.errors import LtrlError

    try:
        digest.record(path, replace(found, records=num_records))
    except LtrlError as error:
        show.note(f"{error.diagnostics[0].message}: bundles will not know what is in `{show.printable(str(path))}`")


def _resolved(spec: Path, sets: list[str]) -> Resolved:
    from ltrl.compile import resolved

    return resolved(spec, sets=sets)


def _files_of(resolved: Resolved, home: Path, *, given: bool) -> tuple[tuple[Path, ...], dict[str, Path]]:
    """The files of a spec's training data, and those of its validation sets by name.

    Raises LtrlError where there are none, or where they are not here and no others are given.
    """
    from ltrl.backend import ReadsFiles, create
    from ltrl.compile import as_in_a_job
    from ltrl.errors import Code, fail

    with as_in_a_job(home):
        train = create(resolved.spec.data.train)
        held_out = {
            (name if place == 0 else f"{name} {place + 1}"): path
            for name, section in resolved.spec.data.validation.items()
            if isinstance(backend := create(section), ReadsFiles)
            for place, path in enumerate(backend.files.values())
        }
    if not isinstance(train, ReadsFiles):
        message = f"the data backend `{resolved.spec.data.train.backend}` reads no file that could be checked"
        raise fail(Code.BAD_DATA, message, resolved.at("data.train"))
    if not given and not all(path.exists() for path in train.files.values()):
        with as_in_a_job(home):
            len(create(resolved.spec.data.train))  # says what to do about it
    return tuple(train.files.values()), held_out


def _counter(resolved: Resolved | None, home: Path, given: Path | None) -> Counter:
    from ltrl.data.tokens import counter

    model = resolved.spec.model if resolved else None
    return counter(model.base if model else "", project=home, revision=model.revision if model else None, given=given)

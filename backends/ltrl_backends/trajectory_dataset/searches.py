"""Search backends `bm25` (the corpus itself) and `http` (any search engine behind two routes)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints

from ltrl.backend import Relaunch, missing_modules
from ltrl.dataset.corpus import Corpus
from ltrl.dataset.kinds import SearchSection
from ltrl.dataset.page import Page, clean
from ltrl.errors import Code, LtrlError, fail
from ltrl.references import Secret, reveal

__all__ = ["Bm25", "HttpSearch"]


class Bm25:
    """Full-text search in the corpus."""

    api: ClassVar[int] = 1

    class Options(SearchSection):
        """Options of the `bm25` search."""

        backend: Literal["bm25"]
        """This backend."""

    def __init__(self, options: Options) -> None:
        self._found = lru_cache(maxsize=512)(lambda corpus, query, limit: corpus.search(query, limit))
        """Attempts at a question search for much the same."""

    def search(self, query: str, limit: int, corpus: Corpus) -> Sequence[Page]:
        """The pages that suit best."""
        return corpus.pages(self._found(corpus, query, limit))

    def open(self, document: str, corpus: Corpus) -> Page | None:
        """The page with that id, title or other name."""
        return corpus.find(document) or corpus.named(document)


class HttpSearch:
    """Any engine: `POST {url}/search {"query", "limit"}` gives `{"results": [{"id", "title", "text"}, …]}`, and
    `POST {url}/open {"id"}` one of these, or 404 where there is none."""

    api: ClassVar[int] = 1

    class Options(SearchSection):
        """Options of the `http` search."""

        backend: Literal["http"]
        """This backend."""
        url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$")]
        """Where `/search` and `/open` are."""
        api_key: Annotated[Secret | None, Relaunch] = None
        """Where the bearer token is found: `${env:NAME}` or `${file:PATH}`."""
        timeout_seconds: Annotated[float, Field(gt=0), Relaunch] = 300.0
        """Longest wait for a reply."""
        tries: Annotated[int, Field(ge=1), Relaunch] = 5
        """Tries of each request; when they are used up, the build stops."""

    def __init__(self, options: Options) -> None:
        if (missing := missing_modules(["httpx"], extra="data", of="the `http` search")) is not None:
            raise LtrlError(missing)
        import httpx

        key = reveal(options.api_key, what="the key of the search") if options.api_key else None
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._options = options
        self._httpx = httpx
        self._client = httpx.Client(headers=headers, timeout=options.timeout_seconds)
        self.close = self._client.close

    def search(self, query: str, limit: int, corpus: Corpus) -> Sequence[Page]:
        """What the engine found, in its order; what has no text is left out."""
        found = self._post("search", {"query": query, "limit": limit})
        results = found.get("results") if isinstance(found, dict) else None
        if not isinstance(results, list):
            raise fail(Code.SERVER_DOWN, f"`{self._options.url}/search` replied without a list `results`")
        return [page for item in results[:limit] if (page := _page(item)) is not None]

    def open(self, document: str, corpus: Corpus) -> Page | None:
        """The whole document."""
        return _page(self._post("open", {"id": document}))

    def _post(self, route: str, body: dict[str, Any]) -> Any:
        said = ""
        for _ in range(self._options.tries):
            try:
                response = self._client.post(f"{self._options.url.rstrip('/')}/{route}", json=body)
                if response.status_code == 404:
                    return None
                if response.status_code == 200:
                    return response.json()
                said = f"HTTP {response.status_code}: {response.text[:200]}"
            except (self._httpx.TransportError, ValueError) as error:
                said = str(error) or type(error).__name__
        hint = "start the build again when it answers: it goes on where it stopped"
        message = f"`{self._options.url}/{route}` gave no usable reply in {self._options.tries} tries: {said}"
        raise fail(Code.SERVER_DOWN, message, hint=hint)


def _page(item: Any) -> Page | None:
    if not isinstance(item, dict) or not isinstance(item.get("id"), str) or not item["id"]:
        return None
    title, text = item.get("title"), item.get("text")
    if not isinstance(text, str) or not text.strip():
        return None
    return Page(0, item["id"], title if isinstance(title, str) and title.strip() else item["id"], clean(text))

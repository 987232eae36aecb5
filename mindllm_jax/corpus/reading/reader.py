"""The first step of a pipeline: reads raw files as documents and reports unreadable input."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger

from mindllm_jax.corpus.outcomes import record
from mindllm_jax.corpus.reading.files import default_sources, file_system, short_names
from mindllm_jax.corpus.reading.formats import format_of
from mindllm_jax.corpus.reading.jsonl import read_rows
from mindllm_jax.corpus.reading.mediawiki import read_wiki
from mindllm_jax.corpus.reading.parquet import read_parquet
from mindllm_jax.corpus.reading.plain import read_plain
from mindllm_jax.corpus.reading.records import Bad, BadFile, Record
from mindllm_jax.corpus.reading.streams import unpacked, utf16_as_utf8
from mindllm_jax.corpus.reading.warc import read_warc
from mindllm_jax.text.documents import check_unicode
from mindllm_jax.text.json_lines import BadLine
from mindllm_jax.text.names import language_code, source_name

# So many unreadable pieces of a kind are logged per file; all are counted.
_LOGGED = 10


class Reader(PipelineStep):
    """Reads JSON lines, parquet, plain text, HTML pages, WARC and MediaWiki dumps, compressed or not.

    Args:
        files: paths or fsspec URLs, as `raw_files` lists them. Task r of n reads files r, r + n, r + 2n, … of it.
        source: the source of documents that do not name one; if not given, it is made from the path of the file, see
            `source_by`.
        lang: the language of documents that do not name one.
        source_by: see `CleanCorpus.source_by`.
        text_field: the field or column of the text in JSON lines and parquet.
        id_field: the field or column of the id.
        keep_columns: see `CleanCorpus.keep_columns`.
        on_bad: what to do with unreadable input: "error" raises, "skip" counts and logs it.
        max_document_bytes: a longer line, page or file is unreadable. Memory is bounded by a few times this, for
            parquet by a row group.

    A document without an id is named by its file and its number in it. Its metadata are `source`, `lang` if declared,
    `format` ("text", "html" or "wiki": the text is markup) if the file declares it, `url` and `title` if known, and
    `columns`, a dictionary of the other strings and numbers of its row: whatever their names, they cannot touch keys
    of the pipeline. Unreadable input is recorded as an outcome, with its bytes if they are
    known. A page of a crawl that cannot be read never raises.

    Raises:
        ValueError: (`on_bad="error"`) input is unreadable; the message names file, place, defect and remedy.
        OSError: a file cannot be opened or read.
        ImportError: a package that the format needs is not installed.
    """

    type = "📖 - READER"
    name = "🗂 Raw files"

    def __init__(
        self,
        files: Sequence[str],
        *,
        source: str | None = None,
        lang: str | None = None,
        source_by: Literal["file", "folder"] = "file",
        text_field: str = "text",
        id_field: str = "id",
        keep_columns: Sequence[str] | None = None,
        on_bad: Literal["error", "skip"] = "error",
        max_document_bytes: int = 32 << 20,
    ) -> None:
        super().__init__()
        if on_bad not in ("error", "skip"):
            raise ValueError(f"on_bad must be 'error' or 'skip', not {on_bad!r}")
        if max_document_bytes < 1:
            raise ValueError(f"max_document_bytes must be at least 1, not {max_document_bytes}")
        if lang is not None and language_code(lang) is None:
            raise ValueError(f"lang must be the code of a language such as zh or en, not {lang!r}")
        sources = default_sources(files, source_by) if source is None else [source_name(source)] * len(files)
        self.files = list(zip(files, short_names(files), sources, strict=True))
        self.lang = language_code(lang)
        self.keep_columns = None if keep_columns is None else set(keep_columns)
        self.text_field, self.id_field = text_field, id_field
        self.on_bad = on_bad
        self.longest = max_document_bytes

    def run(self, data: Iterable[Document] | None = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Reads the files of a task."""
        yield from data or ()
        for file, name, source in self.files[rank::world_size]:
            self.stat_update("input_files")
            yield from self._read(file, name, source)

    def _read(self, file: str, name: str, default: str) -> Iterator[Document]:
        unreadable: Counter[str] = Counter()
        documents = 0
        records = self._records(file, name)
        while True:
            with self.track_time():
                try:
                    read = next(records, None)
                except BadFile as bad:
                    read = Bad(bad.kind, "", str(bad), 0)
                if isinstance(read, Record):
                    read = self._document(read, name, default)
            if read is None:
                break
            if isinstance(read, Bad):
                self._report(read, file, default, unreadable)
            else:
                documents += 1
                self.update_doc_stats(read)
                yield read
        if not documents and not unreadable:
            self._report(
                Bad("no document", "", "it holds no document; fetch it again, or leave it out before the first run", 0),
                file,
                default,
                unreadable,
            )
        self.stat_update("documents", value=documents, unit="input_file")
        if unreadable:
            counts = ", ".join(f"{count} x {kind}" for kind, count in unreadable.most_common())
            logger.warning(f"{file}: {documents} documents; left out: {counts}")

    def _records(self, file: str, name: str) -> Iterator[Record | Bad]:
        fs, path = file_system(file)

        fields: Any = {"text_field": self.text_field, "id_field": self.id_field, "longest": self.longest}
        with fs.open(path, "rb") as raw:
            packed = raw.read(16)
            stream = unpacked(raw, packed)
            sample = stream.peek()
            if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
                stream = utf16_as_utf8(stream)
                sample = stream.peek()
            match format_of(name, packed, sample):
                case "json":
                    yield from read_rows(stream, **fields)
                case "parquet":
                    with fs.open(path, "rb") as again:
                        yield from read_parquet(again, **fields)
                case "plain":
                    yield from read_plain(stream, longest=self.longest)
                case "html":
                    yield from read_plain(stream, markup="html", longest=self.longest)
                case "warc":
                    with fs.open(path, "rb") as again:
                        yield from read_warc(again, longest=self.longest)
                case "wiki":
                    yield from read_wiki(stream, longest=self.longest)

    def _document(self, record: Record, name: str, default: str) -> Document | Bad:
        id = record.id or (f"{name}/{record.number}" if record.number else name)
        metadata: dict[str, Any] = {"source": default}
        if self.lang is not None:
            metadata["lang"] = self.lang
        metadata |= record.metadata
        columns = record.columns
        if self.keep_columns is not None:
            columns = {name: value for name, value in columns.items() if name in self.keep_columns}
        if columns:
            metadata["columns"] = columns
        try:
            check_unicode(record.text)
            check_unicode(id)
        except BadLine as bad:
            return Bad(bad.kind, record.where, str(bad), record.size)
        return Document(record.text, id, metadata=metadata)

    def _report(self, bad: Bad, file: str, source: str, unreadable: Counter[str]) -> None:
        message = f"{file}{', ' if bad.where else ''}{bad.where}: {bad.message}"
        if self.on_bad == "error" and not bad.page:
            raise ValueError(f"{message} (or leave such things out with on_bad = 'skip')")
        record(self, source, "unreadable", bad.kind, bytes=bad.size)
        unreadable[bad.kind] += 1
        if unreadable[bad.kind] <= _LOGGED:
            logger.warning(f"left out: {message}")

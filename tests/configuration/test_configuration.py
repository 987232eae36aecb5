"""The command line and gin files, on a small tree of dataclasses."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

import pytest

from mindllm_jax import run_records
from mindllm_jax.configuration import bindings, command_line, from_json, load, schema, without_settings
from mindllm_jax.run_records import check_records, git_sha, write_records

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Rate:
    """A leaf."""

    peak: float = 1e-3
    kind: Literal["cosine", "linear"] = "cosine"

    def __post_init__(self) -> None:
        if self.peak <= 0:
            raise ValueError(f"Rate.peak = {self.peak}: must be greater than 0")


class Part(TypedDict):
    """A dict with known keys."""

    name: str
    share: NotRequired[float]


@dataclass(frozen=True)
class Corpus:
    """A leaf of the tree."""

    path: str = "a"
    sizes: tuple[int, ...] = (1, 2)
    weights: dict[str, int] = field(default_factory=lambda: {"zh": 2})
    limit: int | None = None
    title: str | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """The root."""

    store: str
    corpus: Corpus = field(default_factory=Corpus)
    rate: Rate = field(default_factory=Rate)


@pytest.fixture
def build(tmp_path: Path):
    """Builds an Experiment from the text of a gin file and overrides."""

    def build(text: str = "", *overrides: str) -> Experiment:
        file = tmp_path / "settings.gin"
        file.write_text(f"Experiment.store = 'somewhere'\n{text}", encoding="utf-8")
        return load(Experiment, command_line("test", ["--gin", str(file), *overrides]))

    return build


def test_values_reach_nested_dataclasses(build):
    config = build("Rate.peak = 3\nCorpus.sizes = [4, 5e0]\nCorpus.limit = 1e3")
    assert config.rate.peak == 3.0 and isinstance(config.rate.peak, float)
    assert config.corpus.sizes == (4, 5)
    assert config.corpus.limit == 1000 and isinstance(config.corpus.limit, int)
    assert pickle.loads(pickle.dumps(config)) == config


def test_one_key_in_several_dicts(build):
    """Beside each other and within each other."""
    config = build("Corpus.parts = [{'name': 'a'}, {'name': 'b'}]\nCorpus.weights = {'name': 1}")
    assert [part["name"] for part in config.corpus.parts] == ["a", "b"] and config.corpus.weights == {"name": 1}
    with pytest.raises(ValueError, match="the key 'name' is written twice"):
        build("Corpus.parts = [{'name': {'x': 1}, 'name': 'b'}]")


def test_typed_dicts_are_checked(build):
    config = build("Corpus.parts = [{'name': 'b', 'share': 1}, {'name': 'a'}]")
    assert config.corpus.parts == ({"name": "b", "share": 1.0}, {"name": "a"})
    assert isinstance(config.corpus.parts[0]["share"], float)


def test_later_files_and_the_command_line_win(build, tmp_path):
    later = tmp_path / "later.gin"
    later.write_text("Rate.peak = 7.0\nCorpus.path = 'later'\n")
    config = build("Rate.peak = 3.0", "--gin", str(later), "--gin.Corpus.path=here")
    assert (config.rate.peak, config.corpus.path) == (7.0, "here")


@pytest.mark.parametrize("spelling", ["runs/x-1", "'runs/x-1'", '"runs/x-1"'])
def test_strings_need_no_quotes_on_the_command_line(build, spelling):
    assert build("", f"--gin.Corpus.path={spelling}").corpus.path == "runs/x-1"


def test_a_number_given_for_a_string_is_a_string(build):
    assert build("", "--gin.Corpus.path=2023").corpus.path == "2023"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("@everyone", "@everyone"),
        ("%x", "%x"),
        ("%BIG", "big"),
        ('"a" # b', '"a" # b'),
        ('"a" or "b"', '"a" or "b"'),
        ("'it\\'s'", "it's"),
        ("None", "None"),
        ("", ""),
        ("The ", "The "),
        (" 'a' ", "a"),
        ('"', '"'),
        ("{'a': 1, 'a': 2}", "{'a': 1, 'a': 2}"),
    ],
)
def test_a_text_on_the_command_line_is_taken_as_it_is(build, given, expected):
    assert build("BIG = 'big'\nCorpus.title = %BIG", f"--gin.Corpus.path={given}").corpus.path == expected


def test_a_text_for_a_macro_may_begin_with_a_bracket(build):
    assert build("Corpus.title = %PATTERN", "--gin.PATTERN=[0-9]+").corpus.title == "[0-9]+"


def test_includes_are_found_next_to_the_file_and_above_it(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "model" / "base.gin").write_text("Rate.peak = 9.0\n")
    file = tmp_path / "runs" / "x.gin"
    file.write_text("include 'model/base.gin'\nExperiment.store = 's'\n")
    assert load(Experiment, command_line("", ["--gin", str(file)])).rate.peak == 9.0


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("Rate.peek = 1.0", (), r"settings\.gin:2: Rate has no setting 'peek'; did you mean 'peak'\?"),
        ("Rat.peak = 1.0", (), r"settings\.gin:2: unknown name 'Rat'; did you mean 'Rate'\?"),
        ("held_out/Corpus.path = 'x'", (), r"settings\.gin:2: held_out/: settings have no scopes; remove it"),
        ("\nRate.peak = 'high'", (), r"settings\.gin:3: Rate\.peak = 'high': must be float, not str"),
        ("Corpus.limit = 1.5", (), r"Corpus\.limit = 1\.5: must be int \| None, not float"),
        ("Corpus.sizes = (1, 'x')", (), r"Corpus\.sizes = 'x': must be int, not str"),
        ("Corpus.weights = {'zh': 'x'}", (), r"Corpus\.weights\['zh'\] = 'x': must be int, not str"),
        ("Corpus.parts = ({'name': 'a', 'shar': 1},)", (), r"Corpus\.parts has no key 'shar'; did you mean 'share'\?"),
        ("Corpus.parts = ({'x': 1},)", (), r"Corpus\.parts has no key 'x'; it has 'name', 'share'"),
        ("Corpus.parts = ({'share': 1},)", (), r"Corpus\.parts = {'share': 1}: the key 'name' is missing"),
        ("Corpus.parts = ({'name': 1},)", (), r"Corpus\.parts\['name'\] = 1: must be str, not int"),
        ("Corpus.limit = True", (), r"Corpus\.limit = True: must be int"),
        ("Rate.kind = 'cosin'", (), r"must be one of 'cosine', 'linear'; did you mean 'cosine'\?"),
        ("Rate.peak = -1", (), r"Rate\.peak = -1\.0: must be greater than 0\n  Rate\.peak is set in .*settings\.gin:2"),
        ("BIG = 3\nRate.peak = 2", (), r"settings\.gin:2: macro BIG is never used"),
        ("Rate.peak = %BIGG\nBIG = 3", (), r"settings\.gin:2: unknown macro %BIGG; did you mean 'BIG'\?"),
        ("Rate.peak == 1", (), r"settings\.gin:2: not a gin statement"),
        ("import os", (), r"settings\.gin:2: .*cannot import"),
        ("include 'missing.gin'", (), r"settings\.gin:2: include missing\.gin: no such gin file"),
        ("include 'settings.gin'", (), r"settings\.gin:2: include settings\.gin: the files include each other"),
        ("include '.'", (), r"settings\.gin:2: include \.: a folder; name the gin file in it"),
        ("\nCorpus.sizes = (1,\n  2,\n", (), r"settings\.gin:3: not a gin statement: .*is a bracket or quote never"),
        ("Corpus.weights = {'zh': 1", (), r"settings\.gin:2: not a gin statement: .*is a bracket or quote never"),
        ("Corpus.sizes = [1\nRate.peak = 2", (), r"settings\.gin:3: not a gin statement: Expected ',' or '\]'"),
        ('Corpus.path = """x\n', (), r"settings\.gin:2: not a gin statement: .*is a bracket or quote never"),
        ("Corpus.path = 'x", (), r"settings\.gin:2: not a gin statement"),
        ("Corpus.weights = {[1]: 2}", (), r"settings\.gin:2: not a value: unhashable type: 'list'"),
        (
            "Corpus.weights = {\n'a': 1,\n'b': 2,\n'a': 3}",
            (),
            r"settings\.gin:5: the key 'a' is written twice; leave one",
        ),
        ("", ("--gin.Corpus.weights={'a': 1, 'a': 3}",), r"--gin\.Corpus\.weights=.*: the key 'a' is written twice"),
        (f"Corpus.path = {'[' * 5000}", (), r"settings\.gin:\d: not a"),
        ("Rate.peak = 1e999", (), r"settings\.gin:2: Rate\.peak = inf: must be a finite number"),
        ("Rate.peak = -1e999", (), r"Rate\.peak = -inf: must be a finite number"),
        (f"Rate.peak = 1{'0' * 400}", (), r"Rate\.peak: must fit into 64 bits"),
        ("Corpus.limit = 9223372036854775808", (), r"settings\.gin:2: Corpus\.limit: must fit into 64 bits"),
        ("Corpus.sizes = (1, 1e999)", (), r"Corpus\.sizes = inf: must be a finite number"),
        ("Experiment.rate = @Rate2()", (), r"do not bind a dataclass with @"),
        ("", ("--gin.Rate.peek=1",), r"--gin\.Rate\.peek=1: Rate has no setting 'peek'"),
        ("", ("--gin.Rate=1",), r"--gin\.Rate=1: Rate is a group of settings: set one, as Rate\.peak"),
        ("\nRate = 1", (), r"settings\.gin:3: Rate is a group of settings: set one, as Rate\.peak"),
        ("Corpus.parts = ('a',)", (), r"settings\.gin:2: Corpus\.parts = 'a': must be Part, not str"),
    ],
)
def test_errors_name_file_and_line(build, text, overrides, message):
    with pytest.raises(ValueError, match=message):
        build(text, *overrides)


def test_missing_file_is_named_with_a_suggestion(build, tmp_path):
    build()
    with pytest.raises(ValueError, match=r"setings\.gin: no such gin file; did you mean .*settings\.gin"):
        load(Experiment, command_line("", ["--gin", str(tmp_path / "setings.gin")]))


def test_a_pipe_is_read():
    """As of the shell's <(…)."""
    reading, writing = os.pipe()
    os.write(writing, b"Experiment.store = 's'\n")
    os.close(writing)
    assert load(Experiment, command_line("", ["--gin", f"/dev/fd/{reading}"])).store == "s"
    os.close(reading)


def test_file_that_is_not_utf8_is_named(tmp_path):
    file = tmp_path / "x.gin"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not UTF-8"):
        load(Experiment, command_line("", ["--gin", str(file)]))


def test_byte_order_mark_is_skipped(tmp_path):
    file = tmp_path / "x.gin"
    file.write_bytes(b"\xef\xbb\xbfExperiment.store = 's'\n")
    assert load(Experiment, command_line("", ["--gin", str(file)])).store == "s"


def test_unread_setting_is_not_required(build, capsys):
    unread = {"Experiment.store": "(none)"}
    assert load(Experiment, command_line("", []), unread).store == "(none)"
    assert load(Experiment, command_line("", ["--gin.Experiment.store=here"]), unread).store == "here"
    with pytest.raises(SystemExit):
        load(Experiment, command_line("", ["--print_config"]), unread)
    assert "Experiment.store = '(none)'  # not given, not read" in capsys.readouterr().out


def test_print_config_shows_a_required_setting(capsys):
    with pytest.raises(SystemExit) as caught:
        load(Experiment, command_line("", ["--print_config", "--gin.Rate.peak=2"]))
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "# Experiment.store is required and has no value" in out and "Rate.peak = 2.0" in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workdir", ""], "--workdir = ''"),
        (["--workdir", "s3://b/runs"], "--workdir = s3://b/runs: must be a path on this machine"),
        (["--workdir", __file__], r"--workdir .*\.py is a file; give a folder"),
        (["--gin", "gs://b/x.gin"], "--gin = gs://b/x.gin: must be a path on this machine"),
        (["--workdir", "\udce4"], r"'\\udce4': not text in this locale's encoding; set LC_ALL=C.UTF-8"),
    ],
)
def test_flags_that_are_not_local_paths_are_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        command_line("", flags)


def test_a_number_for_a_text_that_may_be_none_is_a_text(build):
    assert build("", "--gin.Corpus.title=2024").corpus.title == "2024"
    assert build("", "--gin.Corpus.title=None").corpus.title is None


@pytest.mark.parametrize("character", ["\u2028", "\u0085", "\f", "\x1c"])
def test_characters_that_end_no_line_stay_in_texts_and_comments(build, character):
    """As they are pasted from web pages."""
    text = f"# a{character}b = 1\nCorpus.path = 'a{character}b'\n"
    assert build(text).corpus.path == f"a{character}b"


def test_a_setting_without_default_must_be_given():
    with pytest.raises(ValueError, match=r"Experiment\.store has no value; give it as --gin\.Experiment\.store="):
        load(Experiment, command_line("", []))


def test_an_unknown_flag_exits_with_status_2(capsys):
    with pytest.raises(SystemExit) as caught:
        command_line("", ["--steps=3"])
    assert caught.value.code == 2
    assert "unknown argument '--steps=3'" in capsys.readouterr().err


def test_print_config_shows_where_each_value_was_set(build, capsys):
    with pytest.raises(SystemExit) as caught:
        build("Rate.peak = 3.0\nOptimizer.beta2 = 0.9", "--print_config", "--gin.Corpus.path=x")
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "Rate.peak = 3.0  # " in out and "settings.gin:2" in out
    assert "Corpus.path = 'x'  # --gin.Corpus.path=x" in out
    assert "Rate.kind = 'cosine'  # default" in out
    assert "# unused" in out and "# Optimizer.beta2 = 0.9" in out


def test_binding_of_another_entry_point_is_checked_against_its_types(build):
    with pytest.raises(ValueError, match=r"Optimizer\.beta2 = 'x': must be float"):
        build("Optimizer.beta2 = 'x'")


def test_every_root_can_be_imported():
    assert len({root.__name__ for root in bindings.known_roots()}) == len(bindings.ROOTS)


def test_the_operative_config_of_another_entry_point_is_accepted(build):
    build("Pretrain.model = @Model()\nModel.layers = 3")


def test_default_of_a_nested_dataclass_is_refused():
    @dataclass(frozen=True)
    class Outer:
        rate: Rate = field(default_factory=lambda: Rate(peak=2.0))

    with pytest.raises(TypeError, match=r"Outer\.rate: a nested dataclass takes its defaults from its own class"):
        list(schema.nested(Outer))


def test_a_workdir_of_another_configuration_is_refused_unless_accepted(build, tmp_path):
    workdir = tmp_path / "run"

    def go(*flags: str) -> None:
        config = build("", *flags)
        write_records(config, check_records(config, command_line("", ["--workdir", str(workdir), *flags])))

    go()
    go()
    with pytest.raises(ValueError, match=r"another configuration:\n  Experiment\.rate\.peak: was 0\.001, is now 0\.5"):
        go("--gin.Rate.peak=0.5")
    assert json.loads((workdir / "config.json").read_text())["Experiment"]["rate"]["peak"] == 0.001
    go("--gin.Rate.peak=0.5", "--accept_changes")
    assert json.loads((workdir / "config.json").read_text())["Experiment"]["rate"]["peak"] == 0.5


def test_the_operative_config_rebuilds_the_same_configuration(build, tmp_path):
    config = build("Corpus.path = 'b'\nBIG = 2.5\nRate.peak = %BIG\nCorpus.weights = {'en': 3}")
    workdir = tmp_path / "run"
    write_records(config, workdir)
    again = load(Experiment, command_line("", ["--gin", str(workdir / "operative_config.gin")]))
    assert again == config
    stored = json.loads((workdir / "config.json").read_text())["Experiment"]
    assert from_json(Experiment, stored) == config
    command = json.loads((workdir / "command.json").read_text())
    assert command["git"] and command["versions"]["jax"]


def test_the_commit_is_of_the_library_s_own_repository(tmp_path, monkeypatch):
    """Not of a project in whose virtual environment it is installed."""
    commit = ["git", "-c", "user.name=a", "-c", "user.email=a", "commit", "--allow-empty", "-qm", "a"]
    for words in (["git", "init", "-q"], commit):
        subprocess.run(words, cwd=tmp_path, check=True)
    for folder, known in (("mindllm_jax", True), (".venv/lib/site-packages/mindllm_jax", False)):
        (tmp_path / folder).mkdir(parents=True)
        monkeypatch.setattr(run_records, "__file__", str(tmp_path / folder / "run_records.py"))
        assert (len(git_sha()) == 40) == known and (git_sha() == "unknown") != known


@dataclass(frozen=True)
class Shelf:
    books: dict[str, Rate]
    label: str


def test_from_json_builds_nested_dataclasses_and_names_errors() -> None:
    assert from_json(Shelf, {"books": {"a": {"peak": 2}}, "label": "x"}) == Shelf({"a": Rate(peak=2.0)}, "x")
    for values, message in (
        ({"books": {}}, r"f\.json: Shelf\.label is missing"),
        ([], r"f\.json: must be the fields of Shelf, not list"),
        ({"books": {"a": {"peak": "high"}}, "label": "x"}, r"f\.json: Shelf\.books\['a'\]: Rate\.peak = 'high'"),
        ({"books": {"a": 3}, "label": "x"}, r"f\.json: Shelf\.books\['a'\] = 3: must be Rate, not int"),
    ):
        with pytest.raises(ValueError, match=message):
            from_json(Shelf, values, "f.json")  # pyright: ignore[reportArgumentType]


def test_from_json_names_a_field_of_another_version():
    with pytest.raises(ValueError, match=r"Rate has no field \['peek'\]"):
        from_json(Rate, {"peek": 1.0})


def _run_entry(body: str) -> subprocess.CompletedProcess[str]:
    code = f"from mindllm_jax import configuration\ndef main():\n    {body}\nconfiguration.run(main)"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_bad_input_ends_with_one_message_and_status_2():
    done = _run_entry("raise ValueError('the store is empty')")
    assert (done.returncode, done.stderr) == (2, "error: the store is empty\n")


def test_ctrl_c_ends_with_a_message_and_status_130():
    done = _run_entry("raise KeyboardInterrupt")
    assert done.returncode == 130 and "run the same command again" in done.stderr


@pytest.mark.parametrize("entry", sorted((ROOT / "launch").glob("[!_]*.py")), ids=lambda path: path.name)
def test_help_imports_nothing_heavy(entry):
    command = [sys.executable, "-X", "importtime", str(entry), "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage:") and f"python launch/{entry.name}" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported and not imported & {"jax", "numpy", "gin", "tensorstore", "rich"}


@pytest.mark.parametrize("words", [["--gin.Loop.steps=20"], ["--workdir", "x"], ["--print_config"]])
def test_an_entry_point_without_settings_takes_none(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the demo, which would run for minutes with its own."""
    monkeypatch.setattr(sys, "argv", ["demo.py", *words])
    with pytest.raises(SystemExit) as ended:
        without_settings("The demo.")
    assert ended.value.code == 2 and "unrecognized arguments" in capsys.readouterr().err

"""YAML: what is read, what is refused, and that nothing in a file makes it slow or an error long."""

from pathlib import Path

import pytest
import yaml

from crossband.cli import main
from crossband.errors import OptionError, PairError, quoted
from crossband.pairs.folder import read_classes
from crossband.training.options import TrainOptions
from crossband.yaml_files import MOST_BYTES, parse_yaml, read_yaml, yaml_text

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
)


def test_plain_values_as_pyyaml_reads_them() -> None:
    text = "a: 1\nb: [1.5, yes, null, ~, 'x: y', -3]\nc: {d: e, 7: .inf}\nf: |\n  two\n  lines\n"
    assert parse_yaml(text) == yaml.safe_load(text)


def test_dates_and_merge_keys_stay_texts() -> None:
    assert parse_yaml("[2001-01-01, 2001-99-99, 2001-01-01 10:00:00]") == [
        "2001-01-01", "2001-99-99", "2001-01-01 10:00:00",
    ]  # fmt: skip
    assert parse_yaml("<<: {a: 1}\n=: 2") == {"<<": {"a": 1}, "=": 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "line 1: anchors and aliases"),
        ("a: *b", "line 1: anchors and aliases"),
        ("a: 1\nb: &c 2", "line 2: anchors and aliases"),
        ("!!float x: 1", "line 1: the tag 'tag:yaml.org,2002:float'"),
        ("a: !!timestamp abc", "the tag"),
        ("a: !!python/object/apply:os.system [x]", "the tag"),
        ("[" * 100_000, "line 1"),
        ("[" * 33 + "]" * 33, "more than 32 lists"),
        ("\n".join("  " * n + "a:" for n in range(60)), "line 33: more than 32 lists"),
        ("a: " + "9" * 5000, "a number of 5000 characters"),
        ("a: 0x" + "f" * 5000, "a number of 5002 characters"),
        ("a: 0x_", "no YAML that can be read"),
        ("a: 0b_", "no YAML that can be read"),
        ("a: 1\na: 2", "the key 'a' occurs twice"),
        ("? [a]\n: 1", "unhashable"),
        ("--- 1\n--- 2", "another document"),
        ("a: [", "no YAML that can be read"),
        ("a: \x01", "no YAML that can be read"),
        ("\ud800", "no YAML that can be read"),
        ("x" * (MOST_BYTES + 1), "more than 1024 KiB"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(OptionError) as caught:
        parse_yaml(text)
    assert said in str(caught.value)
    for read, kind in (
        (read_yaml, OptionError),
        (read_classes, PairError),
        (TrainOptions.from_yaml, OptionError),
    ):
        with pytest.raises(kind) as caught:
            read(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        assert len(message) < len(str(path)) + 300


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"a\.yaml: cannot be read \(No such file"):
        read_yaml(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_bytes(b"a: \xff")
    with pytest.raises(OptionError, match=r"a\.yaml: is no text in UTF-8"):
        read_yaml(tmp_path / "a.yaml")


def test_what_is_written_has_no_anchors() -> None:
    twice = [1, 2]
    values = {"b": twice, "a": twice, "date": "2001-01-01", "text": "ä: b"}
    assert "&" in yaml.safe_dump(values)
    text = yaml_text(values)
    assert "&" not in text
    assert parse_yaml(text) == yaml.safe_load(text) == values
    assert list(parse_yaml(text)) == ["b", "a", "date", "text"]


def test_an_error_in_a_config_names_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(BOMB)
    with pytest.raises(SystemExit):
        main(["train", "csknet", "--config", str(tmp_path / "a.yaml")])
    assert "a.yaml: line 1: anchors and aliases" in capsys.readouterr().err


@pytest.mark.parametrize("text", [BOMB, "[" * 100_000, "data: 0x_", "- " + "x" * 500_000])
def test_a_config_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(SystemExit) as caught:
        main(["train", "csknet", "--config", str(tmp_path / "a.yaml"), "--out", str(tmp_path / "run")])
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert error.startswith("crossband: error: ")
    assert error.count("\n") == 1
    assert len(error) < 1000
    assert not (tmp_path / "run").exists()


def test_quoted_values_are_short() -> None:
    nested = [["y" * 10**5] * 1000] * 1000
    for value in ("x" * 10**6, nested, {n: [n] for n in range(10**5)}, 10**100_000, [10**100_000]):
        assert len(quoted(value)) <= 240


def test_short_values_are_quoted_whole() -> None:
    for value in (3, -2.5, "it's", [1, "a"], {"a": None}, True):
        assert quoted(value) == repr(value)


@pytest.mark.shared_data
def test_documents_that_once_failed(shared_data: Path) -> None:
    paths = sorted((shared_data / "cases").rglob("*.yaml"))
    assert len(paths) > 100
    for path in paths:
        for read in (read_yaml, read_classes):
            try:
                read(path)
            except (OptionError, PairError) as error:
                message = str(error)
                assert len(message) < len(str(path)) + 300, path

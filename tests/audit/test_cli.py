"""The command radam-audit: its exit status, what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from radam.audit import auditing
from radam.audit.checks import all_checks
from radam.audit.cli import main

WRONG = "tests.audit.test_auditing:Shrinks"
RIGHT = "tests.audit.test_auditing:Unseen"
FEW = ("--max-examples", "12")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


def test_nothing_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([RIGHT, "--checks", "repr", "--checks", "hooks"]) == 0
    text = said(capsys)
    assert "2 checks in 2 settings run: 2 passed, 0 failed" in text
    assert f"{RIGHT}: passed" in text


def test_something_found(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The finding and its script are printed; --repro, --json and --html write theirs."""
    files = {name: tmp_path / f"report.{name}" for name in ("json", "html")}
    arguments = [WRONG, "--checks", "groups_*", "--checks", "repr", *FEW, "--repro", str(tmp_path / "scripts")]
    for name, path in files.items():
        arguments += [f"--{name}", str(path)]
    assert main(arguments) == 1
    text = said(capsys)
    assert "times the bound" in text
    assert "Shrinks([{" in text
    assert f"{WRONG}: failed: groups_are_separate_optimizers" in text
    content = json.loads(files["json"].read_text(encoding="utf-8"))
    assert content["schema"] == 1
    assert content["counts"]["failed"] == 1
    assert WRONG in files["html"].read_text(encoding="utf-8")
    (script,) = (tmp_path / "scripts").glob("*.py")
    result = subprocess.run(
        [sys.executable, str(script)],
        cwd=Path(__file__).parents[2],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "but should be" in result.stdout


def test_too_few_checks_are_red(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([RIGHT, "--checks", "repr", "--min-checks", "2"]) == 1
    assert "1 check was run, but should be at least 2" in said(capsys)
    assert main([RIGHT, "--checks", "repr", "--min-checks", "1"]) == 0


def test_skipped_checks_are_shown_with_their_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([RIGHT, "--checks", "every_step", "--checks", "repr"]) == 0
    text = said(capsys)
    assert "skipped: needs an oracle: describe the optimizer by a Subject every_step" in text
    assert "skipped: 1 check, 1 setting" in text


def test_a_list_of_the_checks(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a subject all of them; with one, why some do not apply."""
    assert main(["--list"]) == 0
    text = said(capsys)
    for check in all_checks():
        assert f"{check.name}: {check.summary}"[:60] in text
    assert "Skipped" not in text
    assert main(["--list", RIGHT]) == 0
    assert "Skipped: needs an oracle" in said(capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "MODULE:NAME is missing"),
        (["nonsense"], "must be MODULE:NAME, but is 'nonsense'"),
        (["no_such_module:X"], "no_such_module:X: ModuleNotFoundError: No module named 'no_such_module'"),
        (["torch.optim:Missing"], "torch.optim:Missing: AttributeError"),
        (["torch:nn"], "torch:nn is neither an optimizer class nor a Subject"),
        (["tests.audit.test_auditing:Demands"], "Demands asks for 'temperature', of which nothing is known"),
        (["tests.audit.test_auditing:NeverSteps"], "NeverSteps cannot be audited: a trial step"),
        (["torch.optim:SGD", "--checks", "no_such_check"], "no check is called 'no_such_check'"),
        (["torch.optim:SGD", "--device", "nonsense"], "argument --device: "),
        (["torch.optim:SGD", "--dtype", "int8"], "argument --dtype: invalid choice: 'int8'"),
        (["torch.optim:SGD", "--max-examples", "0"], "argument --max-examples: must be at least 1, but is 0"),
        (["torch.optim:SGD", "--nonsense"], "unrecognized arguments: --nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert message in said(capsys)


def test_an_optimizer_of_the_folder_at_hand(tmp_path: Path) -> None:
    """The command as it is installed, on a module that only the current folder has."""
    source = "import torch\n\nclass Mine(torch.optim.SGD):\n    pass\n"
    tmp_path.joinpath("my_module.py").write_text(source, encoding="utf-8")
    command = Path(sys.executable).with_name("radam-audit")
    result = subprocess.run(
        [str(command), "my_module:Mine", "--checks", "repr"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "my_module:Mine: passed" in result.stdout


SOME = ("--checks", "repr", "--checks", "every_step", "--checks", "deepcopy", "--max-examples", "2")


def records(path: Path) -> list[dict[str, object]]:
    """Those of a report, but for the time that they took."""
    found = json.loads(path.read_text(encoding="utf-8"))["records"]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in found]


def test_shards_are_put_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are the whole audit, record by record, in whatever order they come."""
    whole, parts = tmp_path / "whole.json", [tmp_path / f"{k}.json" for k in (1, 2, 3)]
    assert main([RIGHT, *SOME, "--json", str(whole)]) == 0
    for k, path in enumerate(parts, 1):
        assert main([RIGHT, *SOME, "--shard", f"{k}/3", "--json", str(path)]) == 0
    assert 0 < len(records(parts[0])) < len(records(whole))
    together = tmp_path / "together.json"
    assert main(["--merge", *map(str, reversed(parts)), "--json", str(together)]) == 0

    def ordered(path: Path) -> list[str]:
        return sorted(map(str, records(path)))

    assert ordered(together) == ordered(whole)
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(["--merge", str(parts[0]), str(parts[0])])
    assert caught.value.code == 2
    assert "is in two of them" in said(capsys)


def test_a_finding_in_a_shard_is_one_of_the_whole(tmp_path: Path) -> None:
    arguments = [WRONG, "--checks", "groups_*", "--checks", "repr", *FEW]
    statuses = []
    for k in (1, 2):
        statuses.append(main([*arguments, "--shard", f"{k}/2", "--json", str(tmp_path / f"{k}.json")]))
    assert sorted(statuses) == [0, 1]
    assert main(["--merge", str(tmp_path / "1.json"), str(tmp_path / "2.json")]) == 1


def test_an_audit_that_is_cut_short_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has a record is not carried out again; the whole is as if it had never been cut."""
    whole, part = tmp_path / "whole.json", tmp_path / "part.json"
    main([RIGHT, *SOME, "--json", str(whole)])
    count = 0
    own = auditing.carry_out

    def counted(*arguments: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return own(*arguments, **more)

    monkeypatch.setattr(auditing, "carry_out", counted)
    with pytest.raises(KeyboardInterrupt):
        main([RIGHT, *SOME, "--json", str(part)])
    assert len(records(part)) == 3
    main([RIGHT, *SOME, "--json", str(part), "--resume"])
    assert records(part) == records(whole)
    assert count == 4 + len(records(whole)) - 3


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "1/0"])
def test_a_shard_that_there_is_not_is_refused(shard: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([RIGHT, "--shard", shard])
    assert caught.value.code == 2
    assert "must be K/N" in said(capsys)


def test_what_cannot_be_gone_on_from_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.json"
    for arguments, message in (
        ([RIGHT, "--resume"], "--resume needs --json"),
        ([RIGHT, "--resume", "--json", str(path)], "this is no report of an audit"),
        (["--merge", str(path)], "this is no report of an audit"),
    ):
        path.write_text("{}")
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert message in said(capsys)
    main([RIGHT, "--checks", "repr", "--json", str(path)])
    with pytest.raises(SystemExit):
        main([WRONG, "--resume", "--json", str(path)])
    assert "cannot be gone on from" in said(capsys)

"""`make test` runs every part and says how each went."""

from types import SimpleNamespace

from tools import course
from tools.start import checking


def test_nothing_to_run_is_a_failure(monkeypatch):
    monkeypatch.setattr(
        checking.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=5)
    )
    assert checking.pytest("tests").startswith("FAILED")


def test_every_part_runs_and_one_failure_fails_all(monkeypatch, capsys):
    ran = []
    parts = {}
    for name, outcome in (
        ("unit", "FAILED"),
        ("notebooks", ""),
        ("browser", "skipped: no browser"),
    ):
        parts[name] = lambda name=name, outcome=outcome: ran.append(name) or outcome
    monkeypatch.setattr(checking, "PARTS", parts)
    monkeypatch.setattr(checking, "ensure", lambda *_: None)
    assert course.main(["test"]) == 1
    assert ran == ["unit", "notebooks", "browser"]
    said = capsys.readouterr().out
    assert "FAILED" in said
    assert "skipped: no browser" in said
    parts["unit"] = lambda: ""
    assert course.main(["test"]) == 0


def test_without_notebooks_or_chromium_it_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(checking, "ROOT", tmp_path)
    monkeypatch.setattr(checking.shutil, "which", lambda _: None)
    assert checking.test_notebooks().startswith("FAILED")
    assert checking.test_browser().startswith("skipped")

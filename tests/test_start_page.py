"""The explorer's page: closed to others, with the token for its owner, and with room
for so many."""

import contextlib
import copy
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tools.start import page

SMALL = {
    "cells": [
        {
            "cell_type": "code",
            "id": "one",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": "import os; print('in', os.environ['PRUNING_WORKSPACE'])",
        }
    ],
    "metadata": {"kernelspec": {"name": "python3", "language": "python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}
SMALL["metadata"]["kernelspec"]["display_name"] = "Python 3"


@contextlib.contextmanager
def served(
    folder: Path, *options: str, open_browser=False, source="", warms="", **variables
):
    """The page's server with a notebook that starts quickly; its address with the
    token."""
    folder.mkdir(exist_ok=True)
    notebook = copy.deepcopy(SMALL)
    notebook["cells"][0]["source"] = source or SMALL["cells"][0]["source"]
    (folder / "small.ipynb").write_text(json.dumps(notebook))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-P", page.__file__, f"--port={port}"]
    command += [f"--ExplorerPage.notebook_path={folder / 'small.ipynb'}", *options]
    command.append(f"--ExplorerPage.warms={warms}")
    command.append(f"--Voila.open_browser={open_browser}")
    # whoever starts it from such a folder, as from a download
    own = {"Voila": {"token": ""}, "VoilaConfiguration": {"strip_sources": False}}
    (folder / "voila.json").write_text(json.dumps(own))
    said = folder / "said"
    with (
        open(said, "w") as log,
        subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PRUNING_WORKSPACE": str(folder), **variables},
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as server,
    ):
        try:
            yield address(server, said)
        finally:
            server.terminate()


def address(server: subprocess.Popen, said: Path) -> str:
    """The address that the server prints when it listens."""
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:\d+/\?token=\w+", said.read_text()):
            return found[0]
        time.sleep(0.1)
    raise AssertionError(said.read_text())


def ask(url: str, seconds: float = 60, **headers: str) -> tuple[int, str, dict]:
    """Status, text and headers."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=seconds
        ) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), dict(error.headers)


def test_who_may_see_it_and_what_it_asks_for(tmp_path):
    with served(tmp_path / "one", "--preheat_kernel=False") as url:
        status, text, headers = ask(url)
        assert status == 200 and f"in {tmp_path / 'one'}" in text
        assert "import os" not in text  # no code in sight
        assert headers["Content-Security-Policy"] == page.POLICY
        assert not re.search(r"<(link|script|img)\b[^>]*(href|src)=.https?:", text)
        # without the token there is the login page only, whatever the folder says
        bare = url.partition("?")[0]
        assert f"in {tmp_path / 'one'}" not in ask(bare)[1]
        assert "Password or token" in ask(bare)[1]
        # another name for this machine, as a page of another site would use it
        assert ask(url, Host="attacker.example")[0] == 403
        port = url.split(":")[2].split("/")[0]
        assert ask(url.replace("127.0.0.1", "localhost"))[0] == 200
        channels = f"http://127.0.0.1:{port}/api/kernels/{'-'.join(['a'] * 5)}/channels"
        token = url.partition("?")[2]
        assert ask(f"{channels}?{token}", Host="attacker.example")[0] == 403


def test_a_visitor_more_than_there_is_room_for_is_told_and_let_in_later(tmp_path):
    idle = ("--MappingKernelManager.cull_idle_timeout=2",)
    idle += ("--MappingKernelManager.cull_interval=1", "--ExplorerPage.visitors=1")
    with served(tmp_path / "one", "--preheat_kernel=False", *idle) as url:
        assert ask(url)[0] == 200
        status, text, headers = ask(url)
        assert status == 503 and headers["Retry-After"] == "60"
        assert "this machine has room for 1 at once" in text
        assert 'http-equiv="refresh" content="60"' in text
        # the first has left without a word
        end = time.monotonic() + 60
        while ask(url)[0] != 200:
            assert time.monotonic() < end, "its kernel stays"
            time.sleep(0.5)


def test_a_kernel_that_waits_ready_is_no_visitor(tmp_path):
    with served(tmp_path / "one", "--ExplorerPage.visitors=1") as url:
        end = time.monotonic() + 60
        while ask(url)[0] != 200:  # a starting one cannot be told apart yet
            assert time.monotonic() < end, "it takes the only place"
            time.sleep(0.2)
        time.sleep(4)  # the next one waits ready
        assert ask(url)[0] == 503


@pytest.mark.skipif(sys.platform != "linux", reason="a browser of Linux's commands")
def test_the_browser_gets_the_token_by_way_of_a_file_of_its_owner(tmp_path):
    seen = tmp_path / "seen"
    script = tmp_path / "browser"
    script.write_text(
        f'#!/bin/sh\nfile="${{1#file://}}"\nstat -c %a "$file" > {seen}.new\n'
        f'echo "$@" >> {seen}.new\ncat "$file" >> {seen}.new\nmv {seen}.new {seen}\n'
    )
    script.chmod(0o700)
    browser = {"open_browser": True, "BROWSER": f"{script} %s"}
    with served(tmp_path / "one", "--preheat_kernel=False", **browser) as url:
        end = time.monotonic() + 20
        while not seen.exists():
            assert time.monotonic() < end, "no browser was opened"
            time.sleep(0.1)
        mode, given, content = seen.read_text().splitlines()
    assert mode == "600"
    assert url.partition("token=")[2] not in given  # which every user can list
    assert f"url={url}" in content


def test_kernels_of_those_who_left_are_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)
    served = page.ExplorerPage(config=page.settings(), warms="")
    served.initialize([str(page.NOTEBOOK), "--preheat_kernel=False"])
    manager = served.init_settings()["kernel_manager"]
    assert (manager.cull_idle_timeout, manager.cull_interval) == (300, 60)
    assert not manager.cull_connected and not manager.cull_busy


@pytest.mark.parametrize(
    ("free", "alone", "shared"),
    [(24e9, 36, 141), (8e9, 9, 34), (6.1e9, 6, 21), (1e9, 1, 1)],
)
def test_the_room_is_what_the_machines_memory_leaves(monkeypatch, free, alone, shared):
    memory = type("Memory", (), {"available": free})
    monkeypatch.setattr(page.psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    process = type("Warm", (), {"works": True})
    monkeypatch.setattr(page.forking, "Warm", lambda _: process)
    served = page.ExplorerPage(config=page.settings(), warms="something")
    served.initialize([str(page.NOTEBOOK), "--preheat_kernel=False"])
    page.forking.use(None)
    assert served.room == shared
    process.works = False  # from now on each reads everything itself
    assert served.room == alone
    served.visitors = 3
    assert served.room == 3

# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
import contextlib
import multiprocessing
import os
import runpy
import sys

import pytest
import torch

from modeling_gau.runs import jobs


class Forked:
    """Takes the place of subprocess.Popen for a command of Python: a new process would import torch for seconds."""

    def __init__(self, words, **options):
        assert words[0] == sys.executable
        self.process = multiprocessing.get_context("fork").Process(target=self.run, args=(words[1:],), kwargs=options)
        self.process.start()

    @staticmethod
    def run(words, cwd, env, stdout, **_):
        torch.set_num_threads(1)  # the threads of OpenMP do not survive a fork
        os.chdir(cwd)
        os.environ.update(env)
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stdout):
            sys.argv = words[words[0] == "-m" :]
            if words[0] == "-m":
                runpy.run_module(words[1], run_name="__main__")
            else:
                runpy.run_path(words[0], run_name="__main__")

    def poll(self):
        return self.process.exitcode

    returncode = property(poll)


@pytest.fixture
def forked_jobs(monkeypatch) -> None:
    """The runs of a study are forks of this process."""
    monkeypatch.setattr(jobs.subprocess, "Popen", Forked)

"""radam.audit's checks, on the mutants of torch's RAdam that torch's own criteria are tried on."""

from __future__ import annotations

import functools

import torch._dynamo  # noqa: F401  (imported once, not in each process)

from radam.audit import Subject
from radam.audit.subjects.torch import torch_subject
from tests.mutation.forking import each_in_a_process
from tests.mutation.judging import by_audit
from tests.mutation.mutant import Mutant, base_source, build, drive, optimizer_of
from tests.mutation.peers.mistakes import Mistake, of
from tests.mutation.peers.patching import patched
from tests.mutation.peers.tables import OURS, Judged, Verdict
from tests.mutation.peers.torch_ import PLACES

BASE = "torch.optim.radam"


def mutant(one: Mistake) -> Mutant:
    """torch's RAdam with a mistake, by the same edits."""
    source = base_source(BASE)
    wrong = patched(source, [(PLACES[place][1], old, new) for place, old, new in one.edits["torch"]])
    return Mutant(f"of_peers_{one.name}", BASE, "one path", ((source, wrong),), one.why, drive())


def _subject(one: Mistake) -> Subject:
    optimizer = optimizer_of(build(mutant(one)))
    subject = torch_subject(optimizer, one.name, "RAdam")
    assert subject is not None
    return subject


def found(one: Mistake) -> str:
    """The check, and its setting, by which a mutant is found; "" where none does."""
    how, _ = by_audit(functools.partial(_subject, one), BASE)
    return how.by if how else ""


def judge(jobs: int, limit: float) -> Judged:
    """Run the checks on each until one fails that torch's RAdam passes as it is. One test, therefore."""
    result = Judged(OURS, {OURS: "passed"})
    for done in each_in_a_process(found, of("torch"), jobs, limit):
        caught = [OURS] if done.result else []
        result.verdicts.append(Verdict(done.task.name, caught, {}, [], done.trouble, done.seconds))
        said = f"caught by {done.result}" if caught else "survives"
        print(f"{OURS:20} {done.task.name:35} {said} {done.seconds:6.1f} s", flush=True)
    return result

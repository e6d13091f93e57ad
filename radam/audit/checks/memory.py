"""What an optimizer keeps alive, and how much it needs for a moment."""

from __future__ import annotations

import inspect
import weakref
from collections import deque
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from radam.audit.checks.check import REAL, Group
from radam.audit.run import Run

memory = Group("Memory")

COPIES = 8
"""How many temporary tensors of a parameter's size a step may hold at a time, for each parameter: torch's RAdam holds
4 (PyTorch's test_peak_memory_foreach)."""


@memory.check("dtype", examples=0.05)
def check_state_does_not_grow(run: Run) -> None:
    """State and groups have the same entries of the same sizes after 2 and after 20 steps."""
    run.make()
    look = (
        "[sorted((str(k), v.numel() if isinstance(v, torch.Tensor) else 1) for k, v in optimizer.state[p].items()) "
        "for p in params] + [sorted(g) for g in optimizer.param_groups]"
    )
    run.drive(2)
    run.script.do(f"before = {look}")
    run.drive(18, kinds=("normal",))
    run.same(look, "before", "the entries of state and groups after 20 steps")


@memory.check(examples=0.01)
def check_nothing_is_kept_of_each_step(run: Run) -> None:
    """No container of the optimizer grows with the number of steps, and no tensor of a step stays alive."""
    steps = 300
    run.make([torch.ones(1, dtype=run.dtype)], dict(run.setting.capabilities.options))
    run.script.do(
        f"import gc\nfrom collections import deque\nfrom typing import Any\n\n\n{inspect.getsource(largest_container)}"
    )
    run.script.do(
        "longest, alive = [], []\n"
        "for _ in range(3):\n"
        f"    for _ in range({steps}):\n"
        "        params[0].grad = params[0].detach().clone()\n"
        "        optimizer.step()\n"
        "    gc.collect()\n"
        "    longest.append(largest_container(optimizer))\n"
        "    alive.append(sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects()))"
    )
    for name, what in (("longest", "the entries of a container of the optimizer"), ("alive", "the tensors alive")):
        _, before, after = run.script.value(name)
        run.expect(f"{name}[2] - {name}[1] < {steps // 2}", f"{what} grew from {before} to {after} in {steps} steps")


def largest_container(optimizer: object) -> int:
    """Length of the longest container that the optimizer reaches through its attributes."""
    largest, seen = 0, set()
    waiting: list[Any] = [vars(optimizer)]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or not isinstance(thing, dict | list | tuple | set | frozenset | deque):
            continue
        seen.add(id(thing))
        largest = max(largest, len(thing))
        waiting.extend([*thing.keys(), *thing.values()] if isinstance(thing, dict) else thing)
    return largest


@memory.check(examples=0.01)
def check_it_is_let_go(run: Run) -> None:
    """An optimizer, its parameters and their state are freed with the last reference to them."""
    run.make()
    run.drive(3)
    # Comprehensions only: the variable of a loop would be a reference.
    run.script.do(
        "import gc, weakref\n"
        "things = {f'param {i}': param for i, param in enumerate(params)} | {'the optimizer': optimizer}\n"
        "states = [state for state in optimizer.state.values() if isinstance(state, dict)]\n"
        "tensors = [v for state in states for v in state.values() if isinstance(v, torch.Tensor)]\n"
        "things.update((f'state tensor {i}', tensor) for i, tensor in enumerate(tensors))\n"
        "references = {name: weakref.ref(thing) for name, thing in things.items()}\n"
        "del params, optimizer, things, states, tensors\n"
        "gc.collect()\n"
        "kept = [name for name, reference in references.items() if reference() is not None]"
    )
    run.expect("not kept", f"{', '.join(run.script.value('kept'))} stay alive without any reference to them")


@memory.check(examples=0.01)
def check_nothing_is_kept_of_a_load(run: Run) -> None:
    """The state that a load_state_dict replaces is freed."""
    run.make()
    run.script.do("import gc, weakref\n\n\nreplaced = []")
    for _ in range(3):
        run.drive(1, kinds=("normal",))
        run.script.do(
            "replaced += [\n"
            "    weakref.ref(v)\n"
            "    for state in optimizer.state.values()\n"
            "    if isinstance(state, dict)\n"
            "    for v in state.values()\n"
            "    if isinstance(v, torch.Tensor)\n"
            "]\n"
            "optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))"
        )
    run.script.do("gc.collect()\nkept = sum(reference() is not None for reference in replaced)")
    run.expect("kept == 0", f"{run.script.value('kept')} state tensors stay alive that three loads have replaced")


@memory.check("implementation", examples=0.02, dtypes=REAL, compiled=False)
def check_transient_memory(run: Run) -> None:
    """A step holds at most 8 temporary tensors of the size of its parameters at a time."""
    size, count = 2**14, 4
    run.script.do(f"params = [torch.nn.Parameter(torch.ones({size}, dtype={run.dtype})) for _ in range({count})]")
    if run.setting.implementation == "differentiable":
        run.script.do("params = [param.detach() for param in params]")
    run.make(params="params", options=_moving(run))
    give = "for param in params:\n    param.grad = torch.ones_like(param)"
    for _ in range(7):
        run.script.do(f"{give}\noptimizer.step()")
    run.script.do(give)
    run.script.do(
        "import weakref\nfrom typing import Any\n\n"
        "from torch.utils._python_dispatch import TorchDispatchMode\nfrom torch.utils._pytree import tree_iter\n\n\n"
        f"{inspect.getsource(Held)}"
    )
    run.script.do("with Held() as held:\n    optimizer.step()")
    own = count * size * run.params()[0].element_size()
    most = run.script.value("held.most")
    run.expect(
        f"held.most <= {COPIES * own}",
        f"a step holds {most} bytes at a time, {most / own:.1f} times its parameters, but should at most {COPIES}",
    )


def _moving(run: Run) -> dict[str, Any]:
    options = dict(run.setting.capabilities.options)
    if "weight_decay" in options:
        options["weight_decay"] = 0.01
    return options


class Held(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of storages that operations have made and that are still alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {
            tensor.untyped_storage()._cdata
            for tensor in tree_iter((args, kwargs or {}))
            if isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided
        }
        result = func(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
                continue
            storage = tensor.untyped_storage()
            if storage._cdata in given or storage._cdata in self._seen:
                continue
            self._seen.add(storage._cdata)
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())
        return result

    def _free(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size

"""The methods are those of the public contract, by name, parameters and defaults."""

from __future__ import annotations

import ast
import inspect
import re
from typing import Any

import pytest
from conftest import ROOT

import pyro_mcp
from pyro_mcp import AsyncPyro, Pyro

CONTRACT = (ROOT / "docs/public-contract-2.5.0.txt").read_text()

# What the contract leaves out where it says `...`; docs/contract.md has it.
VM = "*, environment, {}vcpu_count=1, mem_mib=1024, {}ttl_seconds=600, network=False, allow_host_compat=False{}"
SPELLED_OUT = {
    "create_vm": VM.format("", "", ""),
    "create_workspace": VM.format("", "", ", seed_path=None"),
    "run_in_vm": VM.format("command, ", "timeout_seconds=30, ", ""),
}


def promised() -> dict[str, str]:
    """Returns the parameters of the methods that the contract names."""
    section = CONTRACT.split("Supported public entrypoints:")[1].split("Behavioral defaults:")[0]
    entries = dict(re.findall(r"^- `Pyro\.(\w+)\((.*)\)`$", section, re.MULTILINE))
    names = re.findall(r"^- `(\w+)\(.*\)`$", section.split("Stable public method names:")[1], re.MULTILINE)
    assert len(entries) == 25 and set(names) == set(entries)
    return entries


def parameters(text: str) -> list[tuple[str, Any, Any]]:
    """Returns name, kind and default of each parameter in a list of parameters."""
    arguments = ast.parse(f"def method({text}): pass").body[0].args
    positional = [(argument.arg, "positional", inspect.Parameter.empty) for argument in arguments.args]
    defaults = [
        inspect.Parameter.empty if default is None else ast.literal_eval(default)
        for default in arguments.kw_defaults
    ]
    keywords = [(a.arg, "keyword", default) for a, default in zip(arguments.kwonlyargs, defaults)]
    return positional + keywords


def own_parameters(method: Any) -> list[tuple[str, Any, Any]]:
    """Returns the same of a method that is there."""
    kinds = {
        inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional",
        inspect.Parameter.KEYWORD_ONLY: "keyword",
    }
    found = list(inspect.signature(method).parameters.values())[1:]
    return [(parameter.name, kinds[parameter.kind], parameter.default) for parameter in found]


@pytest.mark.parametrize("name", promised())
def test_signature_is_that_of_the_contract(name: str) -> None:
    """Catches a parameter or default that differs from what was published."""
    text = promised()[name]
    expected = parameters(SPELLED_OUT[name] if text == "..." else text)
    assert own_parameters(getattr(Pyro, name)) == expected
    assert own_parameters(getattr(AsyncPyro, name)) == expected


def test_defaults_that_the_contract_spells_out() -> None:
    """Catches a table above that drifts from the contract."""
    for name in SPELLED_OUT:
        defaults = {parameter: default for parameter, _, default in own_parameters(getattr(Pyro, name))}
        assert (defaults["vcpu_count"], defaults["mem_mib"]) == (1, 1024)
        assert defaults["allow_host_compat"] is False


def public(kind: type) -> dict[str, Any]:
    """Returns the public methods of a class."""
    return {name: method for name, method in inspect.getmembers(kind, callable) if not name.startswith("_")}


@pytest.mark.parametrize("sync", ["Pyro", "Workspace", "Shell", "ExecStream", "EventStream"])
def test_coroutines_are_the_same_methods(sync: str) -> None:
    """Catches a method or an argument that only one of both has, and one without documentation."""
    ours, theirs = public(getattr(pyro_mcp, sync)), public(getattr(pyro_mcp, f"Async{sync}"))
    assert ours.keys() == theirs.keys()
    for name, method in ours.items():
        assert own_parameters(method) == own_parameters(theirs[name]), name
        assert method.__doc__ and theirs[name].__doc__, name


def test_everything_that_is_exported_is_there() -> None:
    """Catches a name in `__all__` that cannot be imported."""
    for name in pyro_mcp.__all__:
        assert getattr(pyro_mcp, name) is not None
    assert set(pyro_mcp.__all__) <= set(dir(pyro_mcp))
    with pytest.raises(AttributeError):
        pyro_mcp.AsyncNothing  # noqa: B018

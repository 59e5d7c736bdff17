from __future__ import annotations

from pathlib import Path

import pytest

from zoo.errors import UsageError
from zoo.registry import RegistryEntry, check_params, import_object, resolve

TABLE = {
    "counter": RegistryEntry("collections:Counter", "counts"),
    "ordered": RegistryEntry("collections:OrderedDict", "keeps order"),
}


def test_resolve_by_name_and_by_path() -> None:
    from collections import Counter, OrderedDict

    assert resolve("counter", TABLE, "thing") is Counter
    assert resolve("collections:OrderedDict", TABLE, "thing") is OrderedDict


def test_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UsageError) as e:
        resolve("conter", TABLE, "thing")
    assert e.value.message == "no thing named 'conter'"
    assert "did you mean counter?" in e.value.hint
    assert e.value.exit_code == 2


def test_import_path_from_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "my_own_things.py").write_text("class Box:\n    inner = 7\n")
    assert import_object("my_own_things:Box.inner") == 7


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("no_such_module_at_all:x", "no module named 'no_such_module_at_all'"),
        ("collections:Countr", "collections has no 'Countr'"),
        ("collections:", "not of the form module:attribute"),
        ("broken_here:x", "importing broken_here failed"),
        ("needs_more:x", "importing needs_more failed"),
    ],
)
def test_bad_import_paths(tmp_path: Path, path: str, said: str) -> None:
    (tmp_path / "broken_here.py").write_text("def (:\n")
    (tmp_path / "needs_more.py").write_text("import not_installed_anywhere\n")
    with pytest.raises(UsageError) as e:
        import_object(path, "loss")
    assert said in e.value.message
    assert e.value.hint


def test_check_params_names_every_problem() -> None:
    def factory(output: int, *, gamma: float, alpha: float = 1.0) -> None: ...

    found = check_params(factory, {"gama": 2, "output": 1}, given=("output",), label="loss.params")
    assert found == [
        "loss.params.gama is unknown; did you mean gamma?",
        "loss.params.output is set by zoo itself",
        "loss.params.gamma is required",
    ]
    assert check_params(factory, {"gamma": 2}, given=("output",), label="p") == []


def test_check_params_lets_var_keywords_pass() -> None:
    def factory(**settings: int) -> None: ...

    assert check_params(factory, {"anything": 1}, label="p") == []

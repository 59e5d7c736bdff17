from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import UsageError
from zoo.losses import LOSSES, make_loss, problems
from zoo.losses.unfit import UNFIT, why_unfit
from zoo.registry import resolve
from zoo.tasks import TASKS

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, -2.0], [1.0, 1.0, 1.0]])
TARGETS = torch.tensor([0, 2, 1])
LABELS = F.one_hot(TARGETS, 3).float()


def test_every_loss_of_torch_is_in_the_table_or_has_a_reason() -> None:
    aliases = {alias for entry in LOSSES.values() for alias in entry.aliases}
    base = nn.modules.loss._Loss
    found = [
        name
        for name, value in vars(nn).items()
        if inspect.isclass(value) and (name.endswith("Loss") or issubclass(value, base))
    ]
    assert len(found) > 20
    for name in found:
        assert (name in aliases) != (name in UNFIT), name
        if name in aliases:
            assert problems(name, {}) == []
            assert problems(f"torch.nn:{name}", {}) == []
        else:
            (problem,) = problems(name, {})
            assert UNFIT[name] in problem


@pytest.mark.parametrize("name", ["CTCLoss", "ctc_loss", "ctc", "torch.nn:CTCLoss"])
def test_a_loss_that_fits_no_task_says_why(name: str) -> None:
    with pytest.raises(UsageError, match="does not fit a task here: it aligns sequences"):
        make_loss(name, {})
    assert why_unfit("my_losses:CTCLoss") is None


def test_an_alias_is_the_loss_itself() -> None:
    for alias, name in (("CrossEntropyLoss", "cross_entropy"), ("iou", "jaccard"), ("torch.nn:NLLLoss", "nll")):
        assert make_loss(alias, {})(LOGITS, TARGETS) == make_loss(name, {})(LOGITS, TARGETS)


def test_listing_the_table_imports_no_torch() -> None:
    code = "import sys, zoo.losses as l; list(l.LOSSES); print([m for m in ('torch', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("name", LOSSES)
def test_the_table_s_class_weights_name_a_parameter(name: str) -> None:
    entry = LOSSES[name]
    parameters = inspect.signature(resolve(name, LOSSES, "loss")).parameters
    assert entry.class_weights is None or entry.class_weights in parameters
    assert set(entry.tasks) <= set(TASKS)
    assert all(name in LOSSES and task.name in LOSSES[task.loss].tasks for task in TASKS.values())


def test_a_loss_of_another_task_is_a_problem() -> None:
    assert problems("mse", {}, "regression") == []
    (problem,) = problems("MSELoss", {}, "single-label")
    assert problem.startswith("loss.name: MSELoss is a loss for regression; for single-label use cross_entropy, ")
    assert "sobolev" not in problem


def test_all_problems_of_a_loss_are_reported_together() -> None:
    found = problems("dice", {"smoth": 1, "nope": 2}, "regression", class_weights="balanced")
    assert [p.split(";")[0] for p in found] == [
        "loss.name: dice is a loss for multi-label and single-label",
        "loss.params.smoth is unknown",
        "loss.params.nope is unknown",
    ]
    assert problems("huber", {"delta": 0}, class_weights="balanced") == [
        "loss.params: huber: delta must be above 0, not 0",
        "loss.class_weights: the loss huber takes no class weights (those that do: "
        + ", ".join(n for n, e in LOSSES.items() if e.class_weights)
        + ")",
    ]


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("cross_entropy", {"label_smoothing": 2}, "label_smoothing must be at least 0 and at most 1, not 2"),
        ("cross_entropy", {"reduction": "none"}, "reduction is mean or sum, not 'none'"),
        ("cross_entropy", {"weight": [1, "a"]}, "weight is a list of one number for each class"),
        ("cross_entropy", {"weight": [1, -1]}, "weight is a list of finite numbers from 0"),
        ("cross_entropy", {"weight": [0, 0]}, "not all 0"),
        ("cross_entropy", {"ignore_index": "void"}, "ignore_index is a whole number, not 'void'"),
        ("multi_margin", {"p": 7}, "p is 1 or 2, not 7"),
        ("focal", {"gamma": "two"}, "gamma is a number, not 'two'"),
        ("focal", {"alpha": [0.1, 0.9]}, "use weight for the classes"),
        ("tversky", {"alpha": 0, "beta": 0}, "alpha and beta are both 0"),
        ("sobolev", {"distance": "l3"}, "distance is mse or l1, not 'l3'"),
    ],
)
def test_values_that_a_loss_refuses(name: str, params: dict[str, object], said: str) -> None:
    (problem,) = problems(name, params)
    assert said in problem
    with pytest.raises(UsageError, match="cannot be built"):
        make_loss(name, params)


def test_names_that_are_not_there() -> None:
    assert problems("nope", {})[0].startswith("loss.name: no loss named 'nope'")
    with pytest.raises(UsageError, match="did you mean cross_entropy"):
        make_loss("CrossEntropy", {})


# --- class weights ---


@pytest.mark.parametrize("name", [n for n, e in LOSSES.items() if e.class_weights and "single-label" in e.tasks])
def test_class_weights_raise_the_price_of_a_class(name: str) -> None:
    """A batch whose class 1 is wrong, class 0 right: it costs more if class 1 weighs more than if class 0 does."""
    output, target = torch.tensor([[1.0, -1.0], [0.9, -1.1]]), torch.tensor([0, 1])
    dear = make_loss(name, {}, class_weights=torch.tensor([0.1, 1.9]))(output, target)
    cheap = make_loss(name, {}, class_weights=torch.tensor([1.9, 0.1]))(output, target)
    assert dear > cheap


@pytest.mark.parametrize("name", [n for n, e in LOSSES.items() if e.class_weights and "multi-label" in e.tasks])
def test_class_weights_raise_the_price_of_a_label_s_positives(name: str) -> None:
    output, target = torch.tensor([[1.0, -1.0], [0.9, -1.1]]), torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    dear = make_loss(name, {}, class_weights=torch.tensor([0.1, 1.9]))(output, target)
    cheap = make_loss(name, {}, class_weights=torch.tensor([1.9, 0.1]))(output, target)
    assert dear > cheap


def test_class_weights_that_do_not_fit() -> None:
    with pytest.raises(UsageError, match="the loss kl_div takes no class weights"):
        make_loss("kl_div", {}, class_weights=torch.ones(3))
    with pytest.raises(UsageError, match=r"is set by loss\.params and by --class-weights"):
        make_loss("cross_entropy", {"weight": [1, 2, 3]}, class_weights=torch.ones(3))
    for name, entry in LOSSES.items():
        if entry.class_weights:
            target = TARGETS if "single-label" in entry.tasks else LABELS
            with pytest.raises(ValueError, match="weight holds 2 numbers for 3 outputs"):
                make_loss(name, {}, class_weights=torch.ones(2))(LOGITS, target)


def test_targets_of_the_wrong_shape_are_refused_not_broadcast() -> None:
    for name, entry in LOSSES.items():
        with pytest.raises(ValueError, match="do not fit outputs of shape"):
            make_loss(name, {})(torch.zeros(4, 2), torch.zeros(4, 3))
        if "regression" in entry.tasks:
            with pytest.raises(ValueError, match="do not fit outputs of shape"):
                make_loss(name, {})(torch.zeros(4, 1), torch.zeros(4))
    with pytest.raises(ValueError, match="are class numbers: integers"):
        make_loss("cross_entropy", {})(LOGITS, TARGETS.float())


# --- the user's own ---


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_losses_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "import torch\n"
        "from torch.nn.functional import cross_entropy\n"
        "class Scaled(torch.nn.Module):\n"
        "    def __init__(self, factor=1.0):\n"
        "        super().__init__(); self.factor = factor\n"
        "    def forward(self, output, target):\n"
        "        return self.factor * cross_entropy(output, target)\n"
        "class Weighted(torch.nn.Module):\n"
        "    def __init__(self, weight=None):\n"
        "        super().__init__(); self.register_buffer('weight', weight)\n"
        "    def forward(self, output, target):\n"
        "        return cross_entropy(output, target, self.weight)\n"
        "class Silent:\n"
        "    pass\n"
        "class Fails:\n"
        "    def __init__(self, size=3): raise RuntimeError('no such size')\n"
        "    def __call__(self, output, target): return output.sum()\n"
        "def scaled(output, target, *, factor=1.0):\n"
        "    return factor * cross_entropy(output, target)\n"
        "def weighted(output, target, weight=None, factor=1.0):\n"
        "    return factor * cross_entropy(output, target, weight)\n"
        "def alone(output): return output.sum()\n"
        "text = 'no'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_a_user_s_class_and_function(own: str) -> None:
    expected = 3 * F.cross_entropy(LOGITS, TARGETS)
    for name in ("Scaled", "scaled"):
        path = f"{own}:{name}"
        assert problems(path, {"factor": 3.0}, "multi-label") == []
        assert make_loss(path, {"factor": 3.0})(LOGITS, TARGETS) == pytest.approx(float(expected))
        assert problems(path, {"faktor": 3.0}) == ["loss.params.faktor is unknown; did you mean factor?"]
    assert make_loss(f"{own}:scaled", {"factor": 3.0}).__name__ == f"{own}:scaled"


def test_a_user_s_class_and_function_with_class_weights(own: str) -> None:
    weights = torch.tensor([1.0, 2.0, 3.0])
    expected = F.cross_entropy(LOGITS, TARGETS, weights)
    for name in ("Weighted", "weighted"):
        loss = make_loss(f"{own}:{name}", {}, class_weights=weights)
        assert isinstance(loss, nn.Module)
        assert [b.tolist() for b in loss.buffers()] == [[1, 2, 3]], "moves with .to(device)"
        assert loss(LOGITS, TARGETS) == pytest.approx(float(expected))
    doubled = make_loss(f"{own}:weighted", {"factor": 2.0}, class_weights=weights)
    assert doubled(LOGITS, TARGETS) == pytest.approx(2 * float(expected))
    with pytest.raises(UsageError, match=r"scaled takes no class weights .*a parameter named weight"):
        make_loss(f"{own}:scaled", {}, class_weights=weights)


def test_a_user_s_mistakes(own: str) -> None:
    with pytest.raises(UsageError, match="is a str, not a class or a function"):
        make_loss(f"{own}:text", {})
    with pytest.raises(UsageError, match="creates a Silent, which cannot be called"):
        make_loss(f"{own}:Silent", {})
    with pytest.raises(UsageError, match="Fails' cannot be built: no such size"):
        make_loss(f"{own}:Fails", {})
    assert problems(f"{own}:text", {}) == [f"loss.name: loss '{own}:text' is a str, not a class or a function"]
    (problem,) = problems(f"{own}:alone", {})
    assert problem.endswith(":alone takes (output); a loss takes (output, target) and returns a scalar tensor")


def test_a_callable_without_a_signature_is_taken_as_it_is() -> None:
    assert problems("torch:dist", {}) == []
    distance: Tensor = make_loss("torch:dist", {})(LOGITS, LABELS)
    assert distance == torch.dist(LOGITS, LABELS)


def test_the_documentation_names_every_loss_and_parameter() -> None:
    text = (Path(__file__).parents[2] / "docs" / "losses.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for name, entry in LOSSES.items():
        mine = "".join(row for row in rows if f"`{name}`" in row.split("|")[1])
        mine += rows[rows.index(mine) + 1] if name == "focal" else ""
        for word in (*inspect.signature(resolve(name, LOSSES, "loss")).parameters, *entry.tasks):
            assert word in mine, f"{name}: {word}"
    assert all(f"`{name}`" in text for name in UNFIT)

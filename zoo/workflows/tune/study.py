"""The state of a search: an Optuna study in an SQLite file, which a later process can continue.

Optuna (Akiba et al. 2019, arXiv 1907.10902) proposes values with TPE (Bergstra et al. 2011) and prunes a trial that is
worse than the median of the others after as many epochs. It is an optional dependency, imported nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from zoo.errors import DataError, UsageError
from zoo.workflows.tune.search_space import Choices, Range, Space, combinations, size

if TYPE_CHECKING:
    import optuna

_NAME = "zoo tune"
_INTERRUPTED = "interrupted"  # study attribute: numbers of the trials that a process left running
# fANOVA fits a forest to the finished trials; with fewer trials its result is random.
_MIN_TRIALS_FOR_IMPORTANCE = 6


@dataclass(frozen=True)
class TrialRecord:
    """The result of a trial. state: finished | pruned | failed | interrupted.

    value: of the best epoch of a finished trial, of the last epoch of a pruned one, else None. duplicate_of: the trial
    with the same values whose result was copied.
    """

    number: int
    state: str
    value: float | None
    values: dict[str, Any]
    epochs: int
    seconds: float
    reason: str
    duplicate_of: int | None


class Trial:
    """One proposal of the study: `values` by dotted recipe key."""

    def __init__(self, study: Study, trial: optuna.Trial) -> None:
        self._study, self._trial = study, trial
        self.number = trial.number
        self.values = study.decode(trial.params)
        self.epochs = 0

    def report_and_should_prune(self, value: float, epoch: int) -> bool:
        """Report the value after an epoch (from 1); True if the trial should be pruned."""
        self.epochs = epoch
        self._trial.report(value, epoch)
        return bool(self._trial.should_prune())

    def finished(self, value: float, seconds: float, *, duplicate_of: int | None = None) -> None:
        self._tell("COMPLETE", seconds, value=value, duplicate_of=duplicate_of)

    def pruned(self, seconds: float, *, duplicate_of: int | None = None) -> None:
        self._tell("PRUNED", seconds, duplicate_of=duplicate_of)

    def failed(self, reason: str, seconds: float) -> None:
        self._tell("FAIL", seconds, reason=reason)

    def _tell(self, state: str, seconds: float, *, value: float | None = None, **attributes: Any) -> None:
        from optuna.trial import TrialState

        for name, attribute in {"epochs": self.epochs, "seconds": round(seconds, 3), **attributes}.items():
            if attribute is not None:
                self._trial.set_user_attr(name, attribute)
        self._study.optuna.tell(self._trial, value, state=TrialState[state])


class Study:
    """An Optuna study and its search space."""

    def __init__(self, study: optuna.Study, space: Space) -> None:
        self.optuna = study
        self.space = space
        self._distributions = {key: _distribution(entry) for key, entry in space.items()}

    def ask(self) -> Trial:
        return Trial(self, self.optuna.ask(self._distributions))

    def decode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters of Optuna → values for a recipe, in the order of the space."""
        found = {}
        for key, entry in self.space.items():
            if key in params:
                found[key] = _decode_choice(entry, params[key]) if isinstance(entry, Choices) else params[key]
        return found

    def encode(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {k: _label(v) if isinstance(self.space[k], Choices) else v for k, v in values.items()}

    def records(self) -> list[TrialRecord]:
        """All trials by number."""
        found, interrupted = [], self._interrupted()
        for trial in self.optuna.get_trials(deepcopy=False):
            state = _STATES.get(trial.state.name)
            if state is None:
                continue
            attributes = trial.user_attrs
            value = trial.value if state == "finished" else trial.intermediate_values.get(trial.last_step or 0)
            found.append(
                TrialRecord(
                    number=trial.number,
                    state="interrupted" if trial.number in interrupted else state,
                    value=value if state in ("finished", "pruned") else None,
                    values=self.decode(trial.params),
                    epochs=int(attributes.get("epochs", 0)),
                    seconds=float(attributes.get("seconds", 0.0)),
                    reason=str(attributes.get("reason", "")),
                    duplicate_of=attributes.get("duplicate_of"),
                )
            )
        return found

    def recover(self) -> list[int]:
        """Close the trials that a killed process left running, and enqueue their values again.

        The numbers of those trials. Call it only while no other process uses the study.
        """
        from optuna.trial import TrialState

        running = self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self.optuna.set_user_attr(_INTERRUPTED, [*self._interrupted(), *(trial.number for trial in running)])
        for trial in running:
            self.optuna.tell(trial.number, state=TrialState.FAIL)
            if trial.params.keys() == self.space.keys():
                self.optuna.enqueue_trial(trial.params)
        return [trial.number for trial in running]

    def _interrupted(self) -> list[int]:
        return list(self.optuna.user_attrs.get(_INTERRUPTED, ()))

    def enqueue_all(self, most: int) -> int | None:
        """If there are at most `most` combinations, enqueue those not yet tried; their number, or None."""
        count = size(self.space)
        if count is None or count > most:
            return None
        for values in combinations(self.space):
            self.optuna.enqueue_trial(self.encode(values), skip_if_exists=True)
        return count

    def importance(self, seed: int) -> dict[str, float] | str:
        """Key → share of the variance between finished trials that it explains (fANOVA, Hutter et al. 2014), largest
        first; or why that is not available."""
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances

        values = [r.value for r in self.records() if r.state == "finished"]
        if len(self.space) < 2:
            return "only one key is searched"
        if len(values) < _MIN_TRIALS_FOR_IMPORTANCE:
            return f"it needs at least {_MIN_TRIALS_FOR_IMPORTANCE} finished trials, and there are {len(values)}"
        if len(set(values)) == 1:
            return "all finished trials have the same value"
        return get_param_importances(self.optuna, evaluator=FanovaImportanceEvaluator(seed=seed))


_STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "interrupted"}


def require_optuna() -> None:
    """Raises UsageError if Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as e:
        raise UsageError(
            "the search needs Optuna, which is not installed", "pip install 'zoo[tune]', or: pip install optuna"
        ) from e


@contextmanager
def open_study(
    path: Path,
    space: Space,
    *,
    higher_is_better: bool,
    seed: int,
    prune: bool,
    settings_record: Mapping[str, Any],
) -> Iterator[Study]:
    """The study in the SQLite file `path`, created if it does not exist.

    seed: of the proposals; a continued study derives another seed from it. settings_record: JSON values by dotted key
    that make trials comparable. Raises UsageError if those in the file differ, DataError if the file is not a study.
    """
    import numpy as np
    import optuna
    from sqlalchemy.engine import URL
    from sqlalchemy.exc import SQLAlchemyError

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # As a URI, because SQLAlchemy 2.0 takes "?" in a plain path for the end of it.
    url = URL.create("sqlite", database=f"file:{quote(str(path))}", query={"uri": "true"}).render_as_string()
    storage = None
    try:
        try:
            storage = optuna.storages.RDBStorage(url)
        except RuntimeError as e:  # written by another version of Optuna
            raise _unusable(path, e) from e
        study = optuna.create_study(
            storage=storage,
            study_name=_NAME,
            direction="maximize" if higher_is_better else "minimize",
            pruner=optuna.pruners.MedianPruner() if prune else optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
        _compare(study, settings_record)
        done = len(study.get_trials(deepcopy=False))
        derived = int(np.random.SeedSequence([seed, done]).generate_state(1)[0])
        study.sampler = optuna.samplers.TPESampler(seed=derived)
        yield Study(study, space)
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as e:
        raise _unusable(path, e) from e
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()
        optuna.logging.set_verbosity(level)


def _unusable(path: Path, error: Exception) -> DataError:
    reason = str(error.__cause__ or error).splitlines()[0]
    return DataError(f"cannot read {path} as an Optuna study: {reason}", "choose another --output-dir")


def _compare(study: optuna.Study, settings_record: Mapping[str, Any]) -> None:
    """Write the settings into a new study; raise UsageError if those of an old one differ."""
    plain = json.loads(json.dumps(settings_record))
    before = study.user_attrs.get("settings_record")
    if before is None:
        study.set_user_attr("settings_record", plain)
        return
    changed = [key for key in (*plain, *before) if before.get(key, _ABSENT) != plain.get(key, _ABSENT)]
    if changed:
        differences = [
            f"{k}: {_short(before.get(k, _ABSENT))} -> {_short(plain.get(k, _ABSENT))}" for k in dict.fromkeys(changed)
        ]
        raise UsageError(
            "this search was started with other settings "
            f"({'; '.join(differences[:5])}{'; …' if len(differences) > 5 else ''})",
            "use the same settings to continue it, or choose another --output-dir",
        )


_ABSENT = "absent"


def _short(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 60 else f"{text[:59]}…"


def _distribution(entry: Range | Choices) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(entry, Choices):
        return CategoricalDistribution([_label(option) for option in entry.options])
    if entry.integer:
        return IntDistribution(int(entry.low), int(entry.high), log=entry.log, step=int(entry.step or 1))
    return FloatDistribution(entry.low, entry.high, log=entry.log, step=entry.step)


def _label(option: Any) -> Any:
    """What Optuna stores for a choice: scalars unchanged, sections and lists as JSON."""
    return option if option is None or isinstance(option, bool | int | float | str) else json.dumps(option)


def _decode_choice(entry: Choices, label: Any) -> Any:
    return next(option for option in entry.options if _label(option) == label)

"""Running cases: which apply to a plugin, each in a world of its own; and the score."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from cnikit import cases
from cnikit.bed import Bed
from cnikit.call import call
from cnikit.case import CASES, VERSIONS, BehaviourError, Case, Level, NotApplicableError, Outcome, Status
from cnikit.isolation import KitError, run_all
from cnikit.profile import Profile

CASE_DEADLINE_S = 180.0

assert cases.CHAPTERS  # imported for its effect: it registers every case

Key = tuple[Case, str]


@dataclass(slots=True)
class Score:
    """A plugin, the versions that it speaks, and what came of each case in each version."""

    profile: Profile
    versions: tuple[str, ...]
    outcomes: dict[Key, Outcome] = field(default_factory=dict)

    def of(self, case: Case) -> dict[str, Outcome]:
        """One case's outcomes by version."""
        return {version: outcome for (one, version), outcome in self.outcomes.items() if one is case}

    def count(self, level: Level | None = None) -> tuple[int, int]:
        """How many case-and-version pairs passed, and of how many that apply."""
        counted = [
            outcome.status
            for (case, _), outcome in self.outcomes.items()
            if outcome.status is not Status.NOT_APPLICABLE and level in (None, case.level)
        ]
        return counted.count(Status.PASS), len(counted)


def score(
    profile: Profile,
    versions: Sequence[str] = VERSIONS,
    only: str = "",
    jobs: int = 0,
    progress: Callable[[Case, str, Outcome], None] | None = None,
) -> Score:
    """Run the cases whose chapter or name holds `only` on a plugin, in the versions that both speak."""
    if not os.access(profile.program, os.X_OK):
        raise KitError(f"{profile.program} is no program that can be run")
    spoken = speaks(profile)
    result = Score(profile, spoken)
    chosen = [one for one in CASES if only in f"{one.chapter} {one.name}"]
    if not chosen:
        raise KitError(f"no case's chapter or name holds {only!r}; see --list")
    works = [((one, version), _work(profile, one, version)) for version in versions for one in chosen]
    running = [(key, work) for key, work in works if _not_applicable(key, spoken, result) is None]
    for key, returned in run_all(running, profile.private, jobs or os.cpu_count() or 1, CASE_DEADLINE_S):
        if isinstance(returned, KitError):
            returned = Outcome(Status.FAIL, f"the case could not be run: {returned}")
        assert isinstance(returned, Outcome)
        result.outcomes[key] = returned
        if progress is not None:
            progress(*key, returned)
    result.outcomes = {key: result.outcomes[key] for key, _ in works}
    return result


def speaks(profile: Profile) -> tuple[str, ...]:
    """The versions that the plugin's VERSION lists, of those that the kit knows."""
    request = b'{"cniVersion": "1.0.0"}'
    reply = call(profile.program, {"CNI_COMMAND": "VERSION", "CNI_PATH": profile.search_path}, request)
    try:
        listed = reply.succeeded().object().get("supportedVersions", [])
    except BehaviourError as failed:
        raise KitError(f"{profile.program} is no CNI plugin: {failed}") from None
    return tuple(version for version in VERSIONS if version in listed)


def _not_applicable(key: Key, spoken: Iterable[str], result: Score) -> Outcome | None:
    case, version = key
    reason = None
    if version not in spoken:
        reason = f"the plugin does not speak {version}"
    elif not case.applies_to(version):
        reason = f"not in {version}"
    if reason is None:
        return None
    result.outcomes[key] = Outcome(Status.NOT_APPLICABLE, reason)
    return result.outcomes[key]


def _work(profile: Profile, case: Case, version: str) -> Callable[[], Outcome]:
    def work() -> Outcome:
        try:
            bed = Bed(profile, version)
            bed.start_daemon()
            case.prove(bed)
        except BehaviourError as failed:
            return Outcome(Status.FAIL, re.sub(r"\s+", " ", str(failed)))
        except NotApplicableError as reason:
            return Outcome(Status.NOT_APPLICABLE, str(reason))
        return Outcome(Status.PASS)

    return work

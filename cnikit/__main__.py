"""The command: score one plugin, or several side by side."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cnikit import report
from cnikit.case import VERSIONS, Case, Level, Outcome
from cnikit.isolation import KitError
from cnikit.profile import Profile, profile_for, shipped_profiles
from cnikit.runner import Score, score

_EXAMPLES = """examples:
  python -m cnikit /opt/cni/bin/ptp
  python -m cnikit /opt/cni/bin/calico --config calico.toml --version 1.0.0,1.1.0
  python -m cnikit                       # every plugin that a profile is shipped for, side by side
  python -m cnikit --only GC --verbose
exit code: 0 if a plugin that was named passes every MUST; 1 if it does not; 2 if the kit cannot work
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, print."""
    options = _parser().parse_args(arguments)
    if options.list:
        print(report.list_cases())
        return 0
    try:
        if os.geteuid() != 0:
            raise KitError("the kit makes network namespaces, and needs root for it")
        versions = _versions(options.version)
        profiles = _profiles(options)
        scores = [score(one, versions, options.only, options.jobs, _progress(options, one)) for one in profiles]
    except KitError as error:
        print(f"cnikit: {error}", file=sys.stderr)
        return 2
    print(report.as_json(scores) if options.json else report.as_text(scores))
    if options.markdown:
        options.markdown.write_text(report.as_markdown(scores))
    return 1 if options.plugin and any(_lacks_a_must(one) for one in scores) else 0


def _lacks_a_must(score: Score) -> bool:
    passed, total = score.count(Level.MUST)
    return passed < total or not score.versions


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cnikit",
        description="Score CNI plugins: run each as a runtime does, one behaviour a case, and look at the kernel.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("plugin", nargs="*", type=Path, help="the plugin's executable; several are set side by side")
    parser.add_argument("--config", type=Path, help="its configuration (JSON) or profile (TOML, see README.md)")
    parser.add_argument("--version", default=",".join(VERSIONS), help="versions of the SPEC, such as 1.0.0,1.1.0")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cases whose chapter or name holds TEXT")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table as a page, too")
    parser.add_argument("--jobs", type=int, default=0, help="cases at a time; default: one for each processor")
    parser.add_argument("--verbose", action="store_true", help="tell each case as it ends, on stderr")
    parser.add_argument("--list", action="store_true", help="list the cases and end")
    return parser


def _versions(text: str) -> list[str]:
    versions = [part.strip() for part in text.split(",")]
    if unknown := [one for one in versions if one not in VERSIONS]:
        raise KitError(f"--version {unknown[0]}: the kit knows {', '.join(VERSIONS)}")
    return versions


def _profiles(options: argparse.Namespace) -> list[Profile]:
    if not options.plugin and options.config is None:
        found = shipped_profiles()
        if not found:
            raise KitError("no plugin of a shipped profile is on this machine; name one")
        return found
    if len(options.plugin) > 1 and options.config is not None:
        raise KitError("--config is one plugin's; name one plugin with it")
    if not options.plugin:
        raise KitError("--config goes with a plugin; name its executable")
    return [profile_for(path.resolve(), options.config) for path in options.plugin]


def _progress(options: argparse.Namespace, profile: Profile) -> Callable[[Case, str, Outcome], None] | None:
    if not options.verbose:
        return None

    def tell(case: Case, version: str, outcome: Outcome) -> None:
        print(f"{profile.name} {report.describe(case, version, outcome)}", file=sys.stderr)

    return tell


if __name__ == "__main__":
    sys.exit(main())

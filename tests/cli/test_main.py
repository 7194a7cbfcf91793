from click.testing import CliRunner

from fairway.cli import main


def test_the_version_is_printed():
    assert "0.1.0" in CliRunner().invoke(main, ["--version"]).output

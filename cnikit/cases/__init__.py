# ruff: noqa: I001 (the order of the imports is the order of the tables)
"""The cases, a file a chapter. Importing this package registers all of them, in this order."""

from cnikit.cases import version, environment, configuration
from cnikit.cases import add, result, requests, traffic, delete
from cnikit.cases import check, gc, status
from cnikit.cases import scarcity, accidents, chains

CHAPTERS = (
    version,
    environment,
    configuration,
    add,
    result,
    requests,
    traffic,
    delete,
    check,
    gc,
    status,
    scarcity,
    accidents,
    chains,
)
"""In the order of the tables."""

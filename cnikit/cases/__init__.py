"""The cases, a file a chapter. Importing this package registers all of them, in this order."""

from cnikit.cases import (
    accidents,
    add,
    chains,
    check,
    configuration,
    delete,
    environment,
    gc,
    requests,
    result,
    scarcity,
    status,
    traffic,
    version,
)

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

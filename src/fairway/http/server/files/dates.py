"""HTTP dates (RFC 9110 section 5.6.7) to and from whole seconds since 1970."""

from __future__ import annotations

import calendar
import re
import time

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TIME = rb"(?P<h>[0-9]{2}):(?P<m>[0-9]{2}):(?P<s>[0-9]{2})"
_FORMS = tuple(
    re.compile(form)
    for form in (
        rb"[A-Z][a-z]{2}, (?P<day>[0-9]{2}) (?P<month>[A-Z][a-z]{2}) (?P<year>[0-9]{4}) " + _TIME + rb" GMT",
        rb"[A-Z][a-z]{5,8}, (?P<day>[0-9]{2})-(?P<month>[A-Z][a-z]{2})-(?P<year>[0-9]{2}) " + _TIME + rb" GMT",
        rb"[A-Z][a-z]{2} (?P<month>[A-Z][a-z]{2}) (?P<day>[ 0-9][0-9]) " + _TIME + rb" (?P<year>[0-9]{4})",
    )
)


def format_date(seconds: int) -> bytes:
    """An IMF-fixdate: `Sun, 06 Nov 1994 08:49:37 GMT`."""
    moment = time.gmtime(seconds)
    return (
        f"{_DAYS[moment.tm_wday]}, {moment.tm_mday:02} {_MONTHS[moment.tm_mon - 1]} {moment.tm_year:04} "
        f"{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02} GMT"
    ).encode()


def parse_date(value: bytes, *, now: float) -> int | None:
    """The seconds that any of the three forms means; None for what is no date. `now` dates the years of two digits."""
    for form in _FORMS:
        match = form.fullmatch(value)
        if match is not None:
            break
    else:
        return None
    month = match["month"].decode()
    if month not in _MONTHS:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:  # more than 50 years in the future means the past
        this_year = time.gmtime(now).tm_year
        year += this_year - this_year % 100
        if year > this_year + 50:
            year -= 100
    fields = (year, _MONTHS.index(month) + 1, int(match["day"]), int(match["h"]), int(match["m"]), int(match["s"]))
    if year < 1 or not 1 <= fields[2] <= calendar.monthrange(year, fields[1])[1]:
        return None
    if fields[3] > 23 or fields[4] > 59 or fields[5] > 60:
        return None
    return calendar.timegm((*fields, 0, 0, 0))

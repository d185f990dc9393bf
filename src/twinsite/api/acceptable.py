"""What clients accept (RFC 9110, section 12.5.1): every answer of the interface is JSON, but for streams of events."""

from __future__ import annotations

from collections.abc import Sequence

from twinsite.control.refusals import RequestRefused

JSON = "application/json"
EVENT_STREAM = "text/event-stream"


def refuse_unacceptable(headers: Sequence[str], served: str = JSON) -> None:
    """Refuse (406) a request whose Accept headers leave no room for what is served; none at all leaves every room."""
    given = ",".join(headers)
    if not given.strip():
        return
    # Ranges that cover it, and how specific each is: the most specific one that is given decides.
    ranks = {served: 3, f"{served.partition('/')[0]}/*": 2, "*/*": 1}
    decisive, is_wanted = 0, False
    for item in given.lower().split(","):
        media_range, *parameters = (part.strip() for part in item.split(";"))
        rank = ranks.get(media_range, 0)
        if rank > decisive:
            decisive, is_wanted = rank, _quality(parameters) > 0
    if not is_wanted:
        raise RequestRefused(
            406, "EVS.5406", f"The answer is {served}, and Accept is {given[:80]!r}. Send Accept: {served}, or none."
        )


def _quality(parameters: Sequence[str]) -> float:
    """Return the weight of a media range, 1 when it has none or none that can be read."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 1.0
    return 1.0

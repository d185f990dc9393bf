"""Bodies of the answers on what groups do: `api.traffic` makes them. See `answers`."""

from __future__ import annotations

from pydantic import Field

from twinsite.api.answers import Answer, ProgressAnswer


class SampleAnswer(Answer):
    """What a group did in the time before `at`, and how it was at the end of it."""

    at: str
    writes_per_second: float
    write_bytes_per_second: float
    reads_per_second: float
    read_bytes_per_second: float
    sent_bytes_per_second: float = Field(description="Sent to the other site: writes and resync.")
    ack_seconds: float | None = Field(
        description="Mean time from a write's arrival to its acknowledgement; null when none was acknowledged."
    )
    dirty_bytes: int
    resync_bytes_left: int
    holding: bool = Field(description="Hosts wait for the stream or for the arbiter.")


class HistoryAnswer(Answer):
    """A group's samples, the oldest first. There is none for times at which its primary was not heard of."""

    interval_seconds: int
    samples: list[SampleAnswer]


class HistoryOne(Answer):
    """The history of one group."""

    history: HistoryAnswer


class TrafficAnswer(Answer):
    """A group and what it does now."""

    id: str
    name: str | None
    status: str
    replication_status: str
    fault_level: str
    priority_station: str
    secondary_station: str
    mode: str | None = Field(description="What the primary worker is doing; null while it is not there.")
    holding_since: str | None
    progress: ProgressAnswer
    now: SampleAnswer | None = Field(description="Over the last few seconds; null while its primary is not heard of.")


class TrafficList(Answer):
    """All groups asked for."""

    traffic: list[TrafficAnswer]

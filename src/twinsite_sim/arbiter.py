"""A worker's end of the arbiter, with the product's own client: only the HTTP request is carried by the world."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twinsite.core.limits import ARBITER_SECONDS_MAX
from twinsite.errors import RetryableError
from twinsite.worker.arbiter_client import ArbiterClient
from twinsite_sim.controller import Controller
from twinsite_sim.loop import KERNEL
from twinsite_sim.machine import Process, current_process, take_long, when_heard
from twinsite_sim.network import Network


@dataclass
class ArbiterFaults:
    """How often a call meets what; each is a share of the calls."""

    request_lost: float = 0.0
    reply_lost: float = 0.0
    late: float = 0.0
    """The caller gives up, and the request arrives afterwards."""
    repeated: float = 0.0
    """The request arrives a second time, later."""
    nonsense: float = 0.0


class SimArbiterClient(ArbiterClient):
    """`ArbiterClient` whose requests travel through the world."""

    world: ArbiterWorld

    def _post(self, body: Any) -> tuple[int, str]:
        return self.world.post(body)


class ArbiterWorld:
    """The way between workers and the arbiter."""

    def __init__(self, network: Network, controller: Controller, seed: str) -> None:
        self.faults = ArbiterFaults()
        self.on_replaced: Callable[[Process], None] = lambda process: None
        """Called when a process hears that another site is primary, or under another term."""
        self._network = network
        self._controller = controller
        self._random = random.Random(f"{seed} arbiter")

    def post(self, body: dict[str, Any]) -> tuple[int, str]:
        """Carry a request of the running process; raises `RetryableError` when no answer comes."""
        process = current_process()
        site, arbiter = process.machine, self._controller.machine
        faults, rng = self.faults, self._random
        is_cut = self._network.is_blocked(site, arbiter) or not arbiter.is_up
        if is_cut or rng.random() < faults.request_lost:
            if rng.random() < 0.3:
                self._arrive_later(body)
            self._give_up(f"{body['call']} does not arrive")
        if rng.random() < faults.late:
            self._arrive_later(body)
            self._give_up(f"{body['call']} is late")
        if rng.random() < faults.nonsense:
            return 502, "bad gateway"
        if rng.random() < faults.repeated:
            self._arrive_later(body)
        answer = self._controller.answer(body)
        if self._network.is_blocked(arbiter, site) or rng.random() < faults.reply_lost:
            self._give_up(f"the answer to {body['call']} is lost")
        take_long(self._network.latency() * 2)
        row = self._controller.row
        if row.unheard:
            return 200, json.dumps(answer)  # What it says is not believed.
        if row.term > body["term"] or (row.term == body["term"] and row.primary_site != body["site"]):
            when_heard(lambda: self.on_replaced(process))
        return 200, json.dumps(answer)

    def _give_up(self, what: str) -> None:
        process = current_process()
        process.machine.trace.add(process.name, f"arbiter: {what}")
        take_long(self._random.choice([0.05, ARBITER_SECONDS_MAX]))
        raise RetryableError("no answer in the simulated world")

    def _arrive_later(self, body: dict[str, Any]) -> None:
        """The network still has the request, or has it twice."""
        delay = self._random.choice([0.5, 6.0, 30.0]) * self._random.random()
        self._network.loop.call_later(delay, self._arrive, body, self._controller.restores, context=KERNEL)

    def _arrive(self, body: dict[str, Any], restores: int) -> None:
        # A connection to the controller that was stopped for a restoration does not reach the one after it.
        if self._controller.machine.is_up and self._controller.restores == restores:
            self._network.trace.add("network", f"brings a late {body['call']} to the arbiter")
            self._controller.answer(body, is_late=True)

"""The actions on a group: each shows its plan first; what moves, pauses or loses something asks for the name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nicegui import ui

from twinsite.client.overviews import ActionPlan
from twinsite.dashboard.dialogs import Dialog, listed
from twinsite.dashboard.frame import REFRESH_SECONDS, Frame, sentence
from twinsite.dashboard.parts import box, button, text
from twinsite.dashboard.wording import MOVE_TITLES, page_words
from twinsite.errors import TwinsiteError


@dataclass(frozen=True, slots=True)
class Move:
    """An action on a group, for people."""

    action: str
    verb: str
    done: str
    hint: str

    @property
    def title(self) -> str:
        """Return what its button is called."""
        return MOVE_TITLES[self.action]


MOVES = (
    Move(
        "sync",
        "Synchronize",
        "The synchronization has begun.",
        "Copy what differs to the DR site, then keep both in step",
    ),
    Move("stop", "Pause replication", "The replication is paused.", "Stop replicating at a common point"),
    Move("reverse", "Switch over", "The switch-over has begun.", "Planned move; loses nothing"),
    Move("failover", "Fail over", "The DR site is primary now.", "When the production site is lost"),
    Move(
        "reprotect",
        "Reprotect",
        "The group is being protected again.",
        "After a failover: replicate to the other site again",
    ),
)


class Moves:
    """The moves of a group: a button for each, and the dialog of each."""

    def __init__(self, frame: Frame, group: Callable[[], tuple[str, str]], done: Callable[[], Awaitable[None]]) -> None:
        """`group` returns the id and the name of the group, `done` reads it anew."""
        self._frame, self._group, self._done = frame, group, done

    def show_buttons(self) -> None:
        """Show a button for each."""
        with box("div", "buttons moves", role="group", aria_label="Actions"):
            for move in MOVES:

                async def show(move: Move = move) -> None:
                    await self._open(move)

                classes = "danger" if move.action == "failover" else ""
                button(move.title, show, classes, title=move.hint)

    async def show(self, action: str) -> None:
        """Show the plan of an action, and the way to do it."""
        await self._open(next(move for move in MOVES if move.action == action))

    async def _open(self, move: Move) -> None:
        await _MoveDialog(self._frame, move, *self._group(), self._done).show()


class _MoveDialog:
    """One move: its plan as it is now, and the way to do it."""

    def __init__(self, frame: Frame, move: Move, group_id: str, name: str, done: Callable[[], Awaitable[None]]) -> None:
        self._frame = frame
        self._move = move
        self._group_id = group_id
        self._done = done
        self._plan: ActionPlan | None = None
        self._is_forced = False
        self._dialog = Dialog(frame, f"{move.title}: {name}", move.verb, is_dangerous=move.action == "failover")
        with self._dialog.body:
            self._shown = box("div")
            self._force = box("div", "field force")
            with self._force, box("label"):
                check = box("input", type="checkbox", id="accept-loss")
                check.on(
                    "change", lambda event: self._accept(bool(event.args)), js_handler="(e) => emit(e.target.checked)"
                )
                text("span", "I accept what is lost, as stated above.")
            self._force.visible = False
        self._dialog.ask_for_name(name)
        self._dialog.allow(False)

    async def show(self) -> None:
        await self._read()
        self._dialog.open(self._act, self._move.done, self._done)
        with self._dialog.body:
            ui.timer(REFRESH_SECONDS, self._read, immediate=False)

    async def _read(self) -> None:
        """Show the plan as it is now, if it has changed."""
        client = self._frame.client
        try:
            plan = await client.plan_group(self._group_id, self._move.action)
        except TwinsiteError as error:
            self._dialog.allow(False)
            self._shown.clear()
            with self._shown:
                text("p", sentence(error), "alert")
            return
        if plan != self._plan:
            self._plan = plan
            self._write(plan)
        self._force.visible = plan.needs_force
        self._dialog.need_name(plan.asks_for_name)
        self._settle(plan)

    def _accept(self, is_accepted: bool) -> None:
        self._is_forced = is_accepted
        if self._plan is not None:
            self._settle(self._plan)

    def _settle(self, plan: ActionPlan) -> None:
        self._dialog.allow(plan.allowed or (plan.needs_force and self._is_forced))

    def _write(self, plan: ActionPlan) -> None:
        def said(words: str) -> str:
            return page_words(words, plan.group_id, plan.group_name)

        self._shown.clear()
        with self._shown:
            if plan.reason:
                text("p", said(plan.reason), "alert")
            listed("Do this first", [said(words) for words in plan.first])
            listed("What happens then", [said(words) for words in plan.steps], "ol")
            if plan.loss_text:
                text("h3", "What is lost")
                text("p", said(plan.loss_text), "loss")
            if plan.hosts:
                text("h3", "Hosts")
                text("p", said(plan.hosts))

    async def _act(self) -> None:
        client, group_id = self._frame.client, self._group_id
        match self._move.action:
            case "sync":
                await client.sync_group(group_id)
            case "stop":
                await client.stop_group(group_id, force=self._is_forced)
            case "reverse":
                await client.reverse_group(group_id, to=self._target())
            case "failover":
                await client.failover_group(group_id, force=self._is_forced, to=self._target())
            case "reprotect":
                await client.reprotect_group(group_id)

    def _target(self) -> str | None:
        """Return the site that the plan names: whoever was faster with the same move has done it already."""
        return self._plan.to_site if self._plan is not None else None

"""What a primary knows of the lineage of its secondary, when sessions end before that one has answered."""

from __future__ import annotations

from twinsite.core.group.member import Member
from twinsite.core.group.primary import Primary
from twinsite.core.limits import BLOCK_BYTES, LINEAGES_MAX
from twinsite.core.stream.hello import Doubt, Welcome
from twinsite.core.tracking.dirty_map import DirtyMap


def primary() -> Primary:
    member = Member(0, "volume", DirtyMap(BLOCK_BYTES, all_dirty=True))
    machine = Primary([member], generations=frozenset({"known"}), sequence=0, peer_consistent=True)
    machine.granted()
    return machine


def say(generation: str, *, led: tuple[str, ...] = ()) -> Welcome:
    return Welcome(1, generation, consistent=not led, doubt=Doubt.NONE, led=list(led))


def test_names_that_the_secondary_never_takes_do_not_pile_up() -> None:
    machine = primary()
    for number in range(5 * LINEAGES_MAX):
        assert machine.connected(say("known"), f"new {number}")
        assert {"known", f"new {number}"} <= machine.generations
        assert len(machine.generations) <= LINEAGES_MAX + 1
        machine.broken()


def test_a_name_that_the_secondary_has_taken_without_a_word_stays_known() -> None:
    machine = primary()
    said = "known"
    for number in range(5 * LINEAGES_MAX):
        assert machine.connected(say(said), f"new {number}")
        assert said in machine.generations
        machine.broken()
        said = f"new {number}"


def test_the_lineages_of_a_former_primary_stay_known() -> None:
    machine = primary()
    for number in range(5 * LINEAGES_MAX):
        assert machine.connected(say("", led=("older", "known")), f"new {number}")
        assert "known" in machine.generations
        assert "older" not in machine.generations, "what its maps are not good for does not become known by being said"
        machine.broken()

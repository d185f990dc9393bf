"""What an action on a group would do, without doing it."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from twinsite.api import answers
from twinsite.api.groups import GroupId
from twinsite.api.routes import TOKEN_DOCUMENTATION, ProjectRoute, controller_of
from twinsite.control.lifecycle.plan_words import Action
from twinsite.control.lifecycle.plans import ActionPlan, Wanted
from twinsite.control.lifecycle.proof import loss_proof

router = APIRouter(
    prefix="/v2/{project_id}/os-vendor-replication-consistency-groups",
    tags=["Replication consistency groups"],
    route_class=ProjectRoute,
    dependencies=TOKEN_DOCUMENTATION,
)


class PlanAnswer(answers.Answer):
    """What an action would do if it came now."""

    action: str
    group_id: str
    group_name: str | None
    allowed: bool = Field(description="It would be admitted, as far as the group's state goes; roles are not asked.")
    due: bool = Field(description="There is something to do; else the action would be admitted and change nothing.")
    reason: str | None = Field(description="Why it would be refused: the message of the refusal.")
    needs_force: bool = Field(description="Refused as it is, and possible with force and the stated loss.")
    from_site: str | None = Field(description="The site that is primary now; of a copy, its source.")
    to_site: str | None = Field(description="The site that is primary afterwards; of a copy, its target.")
    steps: list[str] = Field(description="What would happen, in order; with force, where it needs that.")
    loss: answers.LossAnswer | None = Field(description="What a failover would lose.")
    loss_text: str | None = Field(description="What would be lost or overwritten, as a sentence.")
    first: list[str] = Field(description="What to do before.")
    hosts: str | None = Field(description="Where hosts connect afterwards.")


class PlanOne(answers.Answer):
    """The plan of an action."""

    plan: PlanAnswer


@router.get("/{replication_consistency_group_id}/plan", responses={200: {"model": PlanOne}, **answers.ERRORS_OF_ONE})
async def plan_action(
    request: Request,
    project_id: str,
    group_id: GroupId,
    action: Annotated[Action, Query(description="The action to plan.")],
    force: Annotated[
        Literal["true", "false"], Query(description="With force; only failover and stop know it.")
    ] = "false",
    priority_station: Annotated[
        str | None, Query(description="The site that a failover or a switchover is to make primary.", max_length=255)
    ] = None,
) -> Response:
    """Tell what an action would do now, what it would lose, and what to do first. Nothing is done."""
    wanted = Wanted(action, force == "true", priority_station or None)
    plan = await controller_of(request).plans.plan(project_id, group_id, wanted)
    return JSONResponse({"plan": plan_view(plan)})


def plan_view(plan: ActionPlan) -> dict[str, object]:
    """Return a plan as clients see it."""
    words = plan.words
    return {
        "action": plan.action.value,
        "group_id": plan.group.id,
        "group_name": plan.group.name,
        "allowed": plan.is_allowed,
        "due": plan.is_due,
        "reason": plan.reason,
        "needs_force": plan.needs_force,
        "from_site": words.from_site,
        "to_site": words.to_site,
        "steps": words.steps,
        "loss": loss_proof(words.loss),
        "loss_text": words.loss_text,
        "first": words.first,
        "hosts": words.hosts,
    }

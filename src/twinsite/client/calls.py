"""Everything that can be called, listed once for both clients: each `planned` attribute is a method of either."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from twinsite.client import audit as audit_plans
from twinsite.client import groups as group_plans
from twinsite.client import lookup, overviews, waiting
from twinsite.client import metadata as metadata_plans
from twinsite.client import pairs as pair_plans
from twinsite.client import quotas as quota_plans
from twinsite.client import sites as site_plans
from twinsite.client import tags as tag_plans
from twinsite.client import traffic as traffic_plans
from twinsite.client import volumes as volume_plans
from twinsite.client import webhooks as webhook_plans
from twinsite.client.session import Session
from twinsite.client.steps import Plan

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Runner:
    """What takes the steps of plans, for one session."""

    session: Session

    def run(self, plan: Plan[Any]) -> Any:
        """Take the steps of a plan; return its result, or an awaitable of that."""
        raise NotImplementedError


class Blocking(Runner):
    """Takes the steps one after the other, and returns when the last one is done."""

    def run(self, plan: Plan[Result]) -> Result:
        """Return what the plan returns."""
        raise NotImplementedError


class Asynchronous(Runner):
    """Takes the steps in an event loop."""

    async def run(self, plan: Plan[Result]) -> Result:
        """Return what the plan returns."""
        raise NotImplementedError


class planned(Generic[Arguments, Result]):  # noqa: N801 - reads as what it makes, as `property` does.
    """A method whose steps are a plan. On a blocking client it returns the result, on the other one a coroutine."""

    def __init__(self, plan: Callable[Concatenate[Session, Arguments], Plan[Result]]) -> None:
        """Make a method of `plan`, whose first parameter is the client's session."""
        self._plan = plan
        self.__doc__ = plan.__doc__

    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[Arguments, Result]: ...

    @overload
    def __get__(self, client: Asynchronous, owner: type) -> Callable[Arguments, Coroutine[Any, Any, Result]]: ...

    @overload
    def __get__(self, client: None, owner: type) -> planned[Arguments, Result]: ...

    def __get__(self, client: Runner | None, owner: type) -> Any:
        """Return the method bound to a client."""
        if client is None:
            return self

        @functools.wraps(self._plan)
        def call(*arguments: Arguments.args, **named: Arguments.kwargs) -> Any:
            return client.run(self._plan(client.session, *arguments, **named))

        return call


class Calls:
    """The methods of both clients. Each raises `ApiRefused`, `ApiUnreachable`, and `PeerViolation` for nonsense."""

    volumes = planned(volume_plans.list_volumes)
    volume = planned(volume_plans.show_volume)
    find_volume = planned(lookup.find_volume)
    create_volume = planned(volume_plans.create_volume)
    update_volume = planned(volume_plans.update_volume)
    extend_volume = planned(volume_plans.extend_volume)
    delete_volume = planned(volume_plans.delete_volume)
    connect_volume = planned(volume_plans.connect_volume)
    disconnect_volume = planned(volume_plans.disconnect_volume)
    wait_for_volume = planned(waiting.wait_for_volume)
    wait_until_volume_gone = planned(waiting.wait_until_volume_gone)
    tags = planned(tag_plans.show_tags)
    add_tags = planned(tag_plans.add_tags)
    delete_tags = planned(tag_plans.delete_tags)
    metadata = planned(metadata_plans.show_metadata)
    add_metadata = planned(metadata_plans.add_metadata)
    delete_metadata = planned(metadata_plans.delete_metadata)
    volume_types = planned(volume_plans.list_volume_types)
    zones = planned(volume_plans.list_zones)

    pairs = planned(pair_plans.list_pairs)
    pair = planned(pair_plans.show_pair)
    find_pair = planned(lookup.find_pair)
    create_pair = planned(pair_plans.create_pair)
    delete_pair = planned(pair_plans.delete_pair)
    wait_for_pair = planned(waiting.wait_for_pair)
    wait_until_pair_gone = planned(waiting.wait_until_pair_gone)

    groups = planned(group_plans.list_groups)
    group = planned(group_plans.show_group)
    find_group = planned(lookup.find_group)
    find_group_id = planned(lookup.find_group_id)
    create_group = planned(group_plans.create_group)
    update_group = planned(group_plans.update_group)
    delete_group = planned(group_plans.delete_group)
    sync_group = planned(group_plans.sync_group)
    stop_group = planned(group_plans.stop_group)
    failover_group = planned(group_plans.failover_group)
    reverse_group = planned(group_plans.reverse_group)
    reprotect_group = planned(group_plans.reprotect_group)
    extend_group = planned(group_plans.extend_group)
    complete_extend = planned(waiting.complete_extend)
    act_on_group = planned(group_plans.act_on_group)
    plan_group = planned(overviews.plan_group)
    overview = planned(overviews.show_overview)
    group_events = planned(group_plans.list_group_events)
    group_history = planned(traffic_plans.show_history)
    traffic = planned(traffic_plans.list_traffic)
    wait_for_group = planned(waiting.wait_for_group)
    wait_until_group_gone = planned(waiting.wait_until_group_gone)
    wait_for_sync = planned(waiting.wait_for_sync)

    quota = planned(quota_plans.show_quota)
    change_quota = planned(quota_plans.change_quota)
    reset_quota = planned(quota_plans.reset_quota)

    events = planned(webhook_plans.list_events)
    webhooks = planned(webhook_plans.list_webhooks)
    webhook = planned(webhook_plans.show_webhook)
    find_webhook = planned(lookup.find_webhook)
    create_webhook = planned(webhook_plans.create_webhook)
    delete_webhook = planned(webhook_plans.delete_webhook)
    test_webhook = planned(webhook_plans.test_webhook)
    webhook_deliveries = planned(webhook_plans.list_deliveries)

    audit_records = planned(audit_plans.list_audit_records)

    sites = planned(site_plans.list_sites)
    forget_site = planned(site_plans.forget_site)
    restore_site = planned(site_plans.restore_site)

"""The controller as one object: opens the database, makes what the first start lacks, holds the services."""

from __future__ import annotations

import asyncio
import hmac
import uuid
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from twinsite.control.arbiter_store import ArbiterStore, worker_token
from twinsite.control.audit import AuditLog
from twinsite.control.clock import utc_now
from twinsite.control.context import Context, Presence
from twinsite.control.database import Database
from twinsite.control.directory import DirectoryService
from twinsite.control.history import History
from twinsite.control.identity import IdentityService
from twinsite.control.lifecycle.event_feed import EventFeed
from twinsite.control.lifecycle.extending import ExtendService
from twinsite.control.lifecycle.groups import GroupService
from twinsite.control.lifecycle.labels import LabelService
from twinsite.control.lifecycle.lost_sites import SiteService
from twinsite.control.lifecycle.moves import MoveService
from twinsite.control.lifecycle.overview import OverviewService
from twinsite.control.lifecycle.pairs import PairService
from twinsite.control.lifecycle.plans import PlanService
from twinsite.control.lifecycle.quotas import QuotaService
from twinsite.control.lifecycle.restored import Memory
from twinsite.control.lifecycle.volume_extending import VolumeExtendService
from twinsite.control.lifecycle.volumes import VolumeService
from twinsite.control.lifecycle.webhooks import WebhookService
from twinsite.control.measuring import Measuring
from twinsite.control.models import Installation, Site
from twinsite.control.overlap import Overlaps
from twinsite.control.passwords import Passwords
from twinsite.control.policy.enforcer import Policy
from twinsite.control.reconciler import Reconciler
from twinsite.control.repository import sites
from twinsite.control.sampling import Sampler
from twinsite.control.secret_files import read_or_create_secret
from twinsite.control.settings import ControllerSettings
from twinsite.control.wakeups import Wakeups
from twinsite.control.webhook_sender import WebhookSender

if TYPE_CHECKING:
    from twinsite.control.keystone import Authenticator, KeystoneAuthenticator


_log = structlog.get_logger(__name__)

READY_SECONDS_MAX = 3.0
"""A database that takes longer for one row is not ready."""


class Controller:
    """The services behind the API. `await Controller.open(settings)`, and `close` at the end."""

    def __init__(
        self,
        context: Context,
        memory: Memory,
        installation_id: str,
        node_token: str,
        policy: Policy,
        keystone: KeystoneAuthenticator | None = None,
    ) -> None:
        """Put the services together; use `open`."""
        self.context = context
        self.settings = context.settings
        self.volumes = VolumeService(context)
        self.pairs = PairService(context)
        self.groups = GroupService(context)
        self.moves = MoveService(context)
        self.plans = PlanService(context)
        self.overviews = OverviewService(context)
        self.extends = ExtendService(context)
        self.volume_extends = VolumeExtendService(context)
        self.labels = LabelService(context)
        self.sites = SiteService(context)
        self.quotas = QuotaService(context)
        self.feed = EventFeed(context)
        self.webhooks = WebhookService(context)
        self.webhook_sender = WebhookSender(context)
        passwords = Passwords()
        self.identity = IdentityService(context, passwords)
        self.directory = DirectoryService(context, passwords)
        self.policy = policy
        self.overlaps = Overlaps()
        self.audit = AuditLog(context)
        self.authenticator: Authenticator = self.identity if keystone is None else keystone
        self._keystone = keystone
        self.arbiter = ArbiterStore(context)
        self.history = History()
        self.sampler = Sampler(context, self.history)
        self.measuring = Measuring(context)
        self.reconciler = Reconciler(
            context, memory, installation_id, lambda group_id: worker_token(node_token, group_id), self.history
        )
        self._node_token = node_token
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, settings: ControllerSettings) -> Controller:
        """Open the database, run its migrations and make what the first start lacks.

        Raises `ConfigurationError` for a policy file or a secret that cannot work.
        """
        node_token = read_or_create_secret(settings.secrets_dir / "node-token")
        policy = Policy(settings.policy_path())
        database = Database(settings.database_address())
        try:
            await database.open()
            installation_id = await _prepare(database, settings)
            context = Context(
                settings, database, Wakeups(settings.poll_seconds), Presence(settings.node_silence_seconds)
            )
            memory = Memory(settings.controller_dir, database)
            await memory.open()
            keystone = _keystone(context) if settings.keystone_auth_url is not None else None
            controller = cls(context, memory, installation_id, node_token, policy, keystone)
            if keystone is None:
                await controller.identity.bootstrap(read_or_create_secret(settings.secrets_dir / "admin-password"))
        except BaseException:
            await database.close()
            raise
        controller._tasks = [
            asyncio.create_task(controller.reconciler.watch_moves(), name="watch moves"),
            asyncio.create_task(controller.sampler.run(), name="sample groups"),
            asyncio.create_task(controller.feed.run(), name="publish events"),
            asyncio.create_task(controller.webhook_sender.run(), name="send to webhooks"),
        ]
        return controller

    async def close(self) -> None:
        """Let every waiter go, and close the database."""
        await self.context.wakeups.close()
        if self._keystone is not None:
            await self._keystone.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.webhook_sender.close()
        await self.context.database.close()

    def is_node_token(self, text: str | None) -> bool:
        """Say whether this is the token that nodes share, in constant time."""
        return hmac.compare_digest((text or "").encode(errors="replace"), self._node_token.encode())

    def is_worker_token(self, text: str | None, group_id: str) -> bool:
        """Say whether this is the token of a group's workers, in constant time."""
        expected = worker_token(self._node_token, group_id)
        return hmac.compare_digest((text or "").encode(errors="replace"), expected.encode())

    async def trouble(self) -> str | None:
        """Return why nothing should be asked of this controller now, in words; None when it can serve."""
        if self.context.wakeups.closed:
            return "it is about to end"
        try:
            async with asyncio.timeout(READY_SECONDS_MAX), self.context.database.read() as session:
                await sites.installation_id(session)
        except TimeoutError:
            return f"its database does not answer within {READY_SECONDS_MAX:g} s"
        except (SQLAlchemyError, OSError) as error:
            _log.warning("the database cannot be read", error=str(error))
            return "its database cannot be read; the log says why"
        return None

    async def connected_sites(self) -> frozenset[str]:
        """Return the sites whose nodes are there."""
        async with self.context.database.read() as session:
            return await self.context.connected_sites(session)


def _keystone(context: Context) -> KeystoneAuthenticator:
    # Its client takes longer to import than everything else, and the embedded identity has no use for it.
    from twinsite.control.keystone import KeystoneAuthenticator  # noqa: PLC0415

    return KeystoneAuthenticator(context)


async def _prepare(database: Database, settings: ControllerSettings) -> str:
    """Make the rows of the installation and its sites; return the installation's id."""
    async with database.write() as session:
        installation_id = await sites.installation_id(session)
        if installation_id is None:
            installation_id = str(uuid.uuid4())
            session.add(Installation(id=installation_id, created_at=utc_now()))
        known = {site.name for site in await sites.all_sites(session)}
        for name in settings.availability_zones:
            if name not in known:
                session.add(Site(name=name, generation=1, seen_generation=0, pool_total_bytes=0, pool_free_bytes=0))
    return installation_id

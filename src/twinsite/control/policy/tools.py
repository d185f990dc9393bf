"""What the tools of oslo.policy ask for; nothing of the controller uses it."""

from __future__ import annotations

import os

from oslo_config import cfg
from oslo_policy import opts
from oslo_policy.policy import Enforcer

from twinsite.control.policy.rules import list_rules

POLICY_FILE_VARIABLE = "TWINSITE_POLICY_FILE"
"""The same that the controller's settings are read from."""


def get_enforcer() -> Enforcer:
    """Return all rules, and the operator's file if the environment names one; the entry point `oslo.policy.enforcer`.

    The tools merge, compare and check the two; a controller compiles them by itself, and more strictly.
    """
    path = os.environ.get(POLICY_FILE_VARIABLE)
    if path is not None:
        opts.set_defaults(cfg.CONF, policy_file=path)  # Where oslopolicy-validator looks, past the enforcer.
    enforcer = Enforcer(cfg.CONF)
    enforcer.register_defaults(list_rules())
    return enforcer

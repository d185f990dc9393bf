"""The sample policy file: every rule with its default, commented out. `python -m twinsite.control.policy.sample`."""

from __future__ import annotations

import textwrap

from oslo_policy.policy import RuleDefault

from twinsite.control.policy.rules import BASE_RULES, RULES, operations_of

COLUMNS = 100

_HEAD = """\
Every rule with its default. Copy what you want to change into DIR/policy.yaml (or the file that the setting
policy_file names), without the leading '#'. A change is in force with the next request.

Checks are in the language of oslo.policy: "role:NAME", "rule:NAME", "user_id:%(user_id)s", "project_id:ID",
"and", "or", "not", parentheses, "@" (always), "!" (never).
"""


def sample() -> str:
    """Return the text of the sample file."""
    parts = [_commented(_HEAD)]
    parts += [_described(rule) for rule in BASE_RULES]
    parts += [_described(rule) for rule in RULES]
    return "\n".join(parts)


def _described(rule: RuleDefault) -> str:
    lines = textwrap.wrap(rule.description or "", COLUMNS)
    lines += [f"{method} {path}" for method, path in operations_of(rule)]
    return "".join(f"# {line}\n" for line in lines) + f'#"{rule.name}": "{rule.check_str}"\n'


def _commented(text: str) -> str:
    return "".join(f"# {line}\n" if line else "#\n" for line in text.splitlines())


if __name__ == "__main__":
    print(sample(), end="")

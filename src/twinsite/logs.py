"""Logs of the long-running processes: one line for each event, on standard error."""

from __future__ import annotations

import logging
import sys

import structlog

NOISY_LOGGERS = ("httpx", "httpcore")
"""Libraries that log each request at level INFO; a node makes several a second."""

ADDED_FIELDS = ("method", "path", "status", "seconds")
"""What a line of the standard library's loggers may carry beside its text."""


def configure_logs(*, as_json: bool = False, level: int = logging.INFO) -> None:
    """Send structlog and the standard library's loggers to standard error, as JSON lines or as readable text.

    The first call in a process decides, and later ones change nothing: a command's options win over a default.
    Secrets stay out because nobody logs them: settings keep them out of their `repr`, and tracebacks carry no locals.
    """
    if structlog.is_configured():
        return
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderer: structlog.typing.Processor
    if as_json:
        renderer = structlog.processors.JSONRenderer()
    else:
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
    handler = logging.StreamHandler(sys.stderr)
    finishing: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if as_json:
        finishing.append(structlog.processors.format_exc_info)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(ADDED_FIELDS)], processors=[*finishing, renderer]
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)

"""The one error of the demo itself."""

from __future__ import annotations

from twinsite.errors import TwinsiteError


class DemoFailed(TwinsiteError):
    """Something did not come out as the story promises. The message says what."""

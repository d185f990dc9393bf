"""Writes the OpenAPI document of an installation with default settings to a file; see `make openapi`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from twinsite.api.app import create_app
from twinsite.control.settings import ControllerSettings


def default_document() -> str:
    """Return the document as it is committed, whatever the environment says."""
    # Without validation no environment variable and no file is read.
    app = create_app(ControllerSettings.model_construct(data_dir=Path("/nonexistent")))
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(default_document(), encoding="utf-8")

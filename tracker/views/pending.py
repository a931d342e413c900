"""What of a tree was deleted in the record and is still to be moved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tracker.paths import Workspace
from tracker.record.catalogue import Reader
from tracker.views.plan import Difference

_PENDING = "SELECT paths FROM deletion WHERE settled_at IS NULL AND restored_at IS NULL"


def without_pending(reader: Reader, workspace: Workspace, found: Sequence[Difference], root: Path) -> list[Difference]:
    """``found`` below ``root`` without what was deleted and is still to be moved: nothing unknown, nothing to mend."""
    pending = [workspace.root / path for row in reader.rows(_PENDING) for path in json.loads(row["paths"])]

    def concerns(each: Difference) -> bool:
        place = root / each.path
        above = each.what == "unknown" and any(path.is_relative_to(place) for path in pending)
        return above or any(place.is_relative_to(path) for path in pending)

    return [each for each in found if not (pending and concerns(each))]

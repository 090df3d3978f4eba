"""The container registry: images and their tags.

In: the images of the settings; deletions. Out: the vendor's rows, or a refusal. It promises that a tag deleted is gone
until the registry begins again. Each tag is an artifact of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from allocator.simulator.edgegap.refused import Refused
from allocator.simulator.edgegap.shapes import moment

_SIZE_MB = 250.0


class Registry:
    """The tags of each image, with the moment each was pushed."""

    def __init__(self) -> None:
        self._images: dict[str, dict[str, int]] = {}

    def push(self, images: Mapping[str, Sequence[str]], now_ms: int) -> None:
        """Add the images that are not known yet."""
        for image, tags in images.items():
            self._images.setdefault(image, dict.fromkeys(tags, now_ms))

    def pulls(self, image: str, tag: str) -> bool:
        """Whether the image can be pulled; an empty registry holds any."""
        return not self._images or tag in self._images.get(image, ())

    def tags(self, image: str) -> list[dict[str, Any]] | Refused:
        """The rows of an image, in the order in which they were pushed."""
        found = self._images.get(image)
        if found is None:
            return Refused(404, f"Image {image} not found")
        return [
            {"tag": tag, "last_push_at": moment(at_ms), "artifact": _artifact(image, tag, deleted=False)}
            for tag, at_ms in found.items()
        ]

    def delete(self, image: str, tag: str) -> dict[str, Any] | Refused:
        """Delete one tag, and with it the artifact."""
        if self._images.get(image, {}).pop(tag, None) is None:
            return Refused(404, f"Tag {tag} of the image {image} not found")
        return {"deleted_tag": tag, "artifact": _artifact(image, tag, deleted=True)}

    def delete_many(self, image: str, tags: Sequence[str]) -> dict[str, Any] | Refused:
        """Delete tags, each for itself."""
        if image not in self._images:
            return Refused(404, f"Image {image} not found")
        results = []
        for tag in tags:
            deleted = self.delete(image, tag)
            status, message = (deleted.status, deleted.message) if isinstance(deleted, Refused) else (204, "Deleted")
            results.append({"tag": tag, "status": status, "message": message})
        success = sum(each["status"] == 204 for each in results)
        summary = {"total": len(results), "success": success, "failed": len(results) - success}
        return {"results": results, "summary": summary}


def _artifact(image: str, tag: str, *, deleted: bool) -> dict[str, Any]:
    return {
        "artifact_deleted": deleted,
        "remaining_tags": [] if deleted else [tag],
        "image_hash": f"sha256:{hashlib.sha256(f'{image}:{tag}'.encode()).hexdigest()}",
        "size_mb": _SIZE_MB,
    }

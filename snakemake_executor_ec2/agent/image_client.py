"""The controller's side of the agent on a machine that becomes an image (see `imaging.py`)."""

from __future__ import annotations

from collections.abc import Collection

from snakemake_executor_ec2.agent.answers import texts
from snakemake_executor_ec2.agent.client import Agent
from snakemake_executor_ec2.errors import PreparationError


class ImageAgent(Agent):
    """The agent of such a machine."""

    def before_image(self, keys: Collection[str]) -> tuple[str, ...]:
        """Remove what an image must not keep, the agent itself and these login keys included; the files there
        that look like credentials. Raises PreparationError if anything is left, or sudo is missing."""
        answer = self._ask(PreparationError, "prepare-image", {"keys": [*keys]})
        return texts(answer.get("private"))

"""A cluster of several nodes on this machine."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

NODES = 3


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without cores, which does no work, and three nodes with one core each; this process has not joined."""
    pytest.importorskip("ray", reason="needs the package ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    memory: dict[str, Any] = {"object_store_memory": 80 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
    try:
        for _ in range(NODES):
            made.add_node(num_cpus=1, **memory)
        made.wait_for_nodes()
        yield made
    finally:
        made.shutdown()

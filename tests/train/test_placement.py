"""Which process of a run this is, by options or by SLURM."""

import pytest

from panns_jax.errors import InputError
from panns_jax.train.placement import Placement, placement

STEP = {
    "SLURM_JOB_ID": "70003",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_STEP_NODELIST": "node[07-09,12]",
}


def test_without_options_a_process_is_alone():
    assert placement(None, None, None, STEP) is None


@pytest.mark.parametrize(
    ("coordinator", "host"), [("node1:12355", "node1"), ("10.0.0.1:12355", "10.0.0.1"), ("[fe80::1]:12355", "fe80::1")]
)
def test_options_name_the_place(coordinator, host):
    assert placement(coordinator, 4, 3, {}) == Placement(host, 12355, 4, 3)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node7", "node7"),
        ("node7,node9", "node7"),
        ("node[07-09,12]", "node07"),
        ("node[1,3-4],login2", "node1"),
        ("a-b[3]", "a-b3"),
    ],
)
def test_slurm_names_the_first_of_its_nodes(nodes, first):
    place = placement("auto", None, None, {**STEP, "SLURM_STEP_NODELIST": nodes})
    assert place == Placement(first, 61440 + 70003 % 4096, 4, 3)


@pytest.mark.parametrize(
    ("coordinator", "processes", "process", "told"),
    [
        (None, 2, None, r"^--processes: give --coordinator HOST:PORT as well"),
        (None, 2, 0, r"^--processes and --process: give --coordinator"),
        ("node1:1", None, None, r"--coordinator node1:1: give --processes N as well, .* and --process I"),
        ("node1:1", 2, None, r"and --process I, which of them this one is, from 0 on"),
        ("node1", 2, 0, r"--coordinator must be HOST:PORT, such as node1:12355, or auto .*; got 'node1'"),
        (":77", 2, 0, r"must be HOST:PORT"),
        ("node1:99999", 2, 0, r"must be HOST:PORT"),
        ("node1:1", 2, 2, r"--process must be from 0 to 1, as --processes is 2; got 2"),
        ("node1:1", 2, -1, r"--process must be from 0 to 1"),
        ("node1:1", 0, 0, r"--processes must be at least 1, got 0"),
        ("auto", 2, None, r"--coordinator auto takes the processes from SLURM: leave --processes"),
        ("auto", None, None, r"--coordinator auto: this process was not started by srun of SLURM"),
    ],
)
def test_options_that_do_not_belong_together_are_told(coordinator, processes, process, told):
    with pytest.raises(InputError, match=told):
        placement(coordinator, processes, process, {})

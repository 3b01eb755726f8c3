"""What is free on this machine, and what is said when it is too little."""

from __future__ import annotations

import math
from pathlib import Path

from sft_app.runtime import resources
from sft_app.runtime.resources import free_disk_gib, free_memory_gib, shortage


def test_memory_is_what_the_container_may_still_take(tmp_path: Path) -> None:
    assert resources._left_to_container(tmp_path) == math.inf
    for name, text in {"memory.current": "700\n", "memory.stat": "anon 500\ninactive_file 200\n"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "memory.max").write_text("max\n")
    assert resources._left_to_container(tmp_path) == math.inf
    (tmp_path / "memory.max").write_text("1000\n")
    assert resources._left_to_container(tmp_path) == 1000 - 700 + 200


def test_some_memory_of_the_cpu_is_free() -> None:
    assert 0 < free_memory_gib("cpu") < 100_000


def test_a_folder_that_is_not_there_yet_has_the_space_of_the_disk_it_will_be_on(tmp_path: Path) -> None:
    assert math.isclose(free_disk_gib(tmp_path / "not" / "there"), free_disk_gib(tmp_path), rel_tol=0.01)


def test_what_does_not_fit_is_told_with_both_numbers() -> None:
    assert shortage("tiny", 2.04, 1) == "tiny needs 2.0 GiB of memory, but only 1.0 GiB is free"
    assert shortage("The run", 9, 0.26, "disk space") == "The run needs 9.0 GiB of disk space, but only 0.3 GiB is free"

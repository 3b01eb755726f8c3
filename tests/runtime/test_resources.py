"""What is free on this machine, and what is said when it is too little."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from sft_app.runtime import resources
from sft_app.runtime.resources import free_disk_gib, free_memory_gib, is_out_of_memory, shortage


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


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.99 GiB",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cudaErrorMemoryAllocation",
        "CUDA driver error: CUDA_ERROR_OUT_OF_MEMORY",
        "Triton Error [CUDA]: out of memory",
        "NCCL error: unhandled cuda error. Last error: Cuda failure 2 'out of memory'",
        "HIP out of memory. Tried to allocate 2.00 GiB",
        "MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB, max allowed: 9.07 GB).",
        "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate",
    ],
)
def test_every_library_s_lack_of_memory_counts(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))
    wrapped = ValueError("the layer failed")
    wrapped.__cause__ = RuntimeError(text)
    assert is_out_of_memory(wrapped)


def test_torch_s_own_error_and_python_s_count() -> None:
    import torch

    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(MemoryError())


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
        RuntimeError("out of resource: shared memory, Required: 131072, Hardware limit: 101376"),
        ValueError("the text says: CUDA out of memory"),
        None,
    ],
)
def test_other_errors_do_not_count(error: BaseException | None) -> None:
    assert not is_out_of_memory(error)

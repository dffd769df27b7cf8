"""Which devices a training runs on: one, several of this machine, or those of several processes."""

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import keras

STRATEGIES = ("none", "mirrored", "data_parallel", "multi_worker")


@dataclass
class Devices:
    """What a training needs to know of its devices.

    Args:
        scope: Context to build and compile the model in.
        process: The number of this process, and how many there are.
        replicas: Number of devices that share a batch.
        equal_shares: Whether a batch must be a multiple of `replicas`, as on JAX.
    """

    scope: AbstractContextManager = field(default_factory=contextlib.nullcontext)
    process: tuple[int, int] = (0, 1)
    replicas: int = 1
    equal_shares: bool = False


def set_up(
    strategy: str,
    coordinator: str | None = None,
    num_processes: int = 1,
    process_id: int = 0,
) -> Devices:
    """Sets up the devices; call it before any model is built.

    Args:
        strategy: `"none"`; `"mirrored"`, all GPUs of this machine on TensorFlow; `"data_parallel"`,
            all devices of this machine, or of several processes, on JAX.
        coordinator: `"HOST:PORT"` of process 0, where there are several processes.
        num_processes: Integer, how many processes there are.
        process_id: Integer from 0, the number of this one.

    Raises:
        ValueError: If the backend has no such strategy, with the way that works.
    """
    backend = keras.backend.backend()
    if strategy == "multi_worker":
        raise ValueError(
            "Keras 3 does not train under `tf.distribute.MultiWorkerMirroredStrategy`: its `fit` fails on "
            "per-replica values. Several machines work on JAX: start the same command on each with "
            "KERAS_BACKEND=jax and --strategy data_parallel --coordinator HOST:PORT "
            "--num-processes N --process-id I. Received: strategy='multi_worker'"
        )
    wanted = {"mirrored": "tensorflow", "data_parallel": "jax"}.get(strategy, backend)
    if backend != wanted:
        other = {"jax": "data_parallel", "tensorflow": "mirrored"}.get(backend, "none")
        raise ValueError(
            f"--strategy {strategy} is for KERAS_BACKEND={wanted}; on {backend} use --strategy {other}. "
            f"Received: strategy={strategy!r}"
        )
    several = num_processes > 1
    if several != (coordinator is not None) or (several and strategy != "data_parallel"):
        raise ValueError(
            "Several processes need all of --strategy data_parallel, --coordinator HOST:PORT and "
            f"--num-processes. Received: strategy={strategy!r}, coordinator={coordinator!r}, "
            f"num_processes={num_processes}"
        )
    if not 0 <= process_id < num_processes:
        raise ValueError(
            f"--process-id must be from 0 to {num_processes - 1}. Received: process_id={process_id}"
        )
    if strategy == "mirrored":
        import tensorflow as tf

        devices = tf.config.list_logical_devices("GPU")
        if not devices:
            devices = tf.config.list_logical_devices("CPU")
            print(f"No GPU: MirroredStrategy on {len(devices)} CPU device(s).")
        mirrored = tf.distribute.MirroredStrategy([device.name for device in devices])
        return Devices(mirrored.scope(), replicas=mirrored.num_replicas_in_sync)
    if strategy == "data_parallel":
        if several:
            keras.distribution.initialize(coordinator, num_processes, process_id)
        # Each process makes its own share of a batch.
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(auto_shard_dataset=False)
        )
        count = len(keras.distribution.list_devices())
        return Devices(process=(process_id, num_processes), replicas=count, equal_shares=True)
    return Devices()

"""Images a second of the package's `tf.data` pipeline beside the usual one, and of the layer.

usage: python -m evidence.benchmarks.input_pipeline
           [--rounds N] [--seconds S] [--batch-size N] [--data-dir DIR]
                                           [--save] [--small]

The usual one maps image by image: `resize_with_crop_or_pad`, `random_crop`, `random_flip_left_right`
and standardisation, then `batch` and `prefetch`. Both keep the images in memory, shuffle them all and
use `AUTOTUNE`. They are measured in turns, in one process. `RandomCropFlip` and `standardization` are
measured compiled, on the device of the backend in use, on a batch that is there already.

On a machine that others use, images for each second of processor time are the steadier figure.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from evidence.benchmarks.measuring import rounds, saving
from evidence.pages import table
from examples.cifar10 import data
from examples.cifar10.data.pipelines import training_batches
from examples.cifar10.data.statistics import STATISTICS

USUAL, OURS = "usual, image by image", "`data.cifar10`"
LAYER = "`RandomCropFlip` and `standardization` alone, compiled"


def load(data_dir: str | None, small: bool) -> tuple[np.ndarray, np.ndarray, str]:
    """Returns training images and labels, and where they are from."""
    if not small:
        try:
            return *data.load_arrays("cifar10", data_dir)[0], "CIFAR-10"
        except FileNotFoundError as error:
            print(f"Random images, since there are no others. {error}\n")
    count = 2_000 if small else 50_000
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (count, 32, 32, 3), dtype="uint8")
    return x, rng.integers(0, 10, count, dtype="int32"), "random images"


def usual(x: np.ndarray, y: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """The pipeline of most tutorials."""
    mean = tf.constant(STATISTICS["cifar10"].mean)
    std = tf.constant(STATISTICS["cifar10"].std)

    def augment(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.image.resize_with_crop_or_pad(image, 40, 40)
        image = tf.image.random_crop(image, (32, 32, 3))
        image = tf.image.random_flip_left_right(image)
        return (tf.cast(image, tf.float32) / 255 - mean) / std, label

    return (
        tf.data.Dataset.from_tensor_slices((x, y))
        .cache()
        .shuffle(len(x))
        .map(augment, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def reader(dataset: tf.data.Dataset) -> Callable[[], Any]:
    """Returns a function that takes the next batch, epoch after epoch."""
    batches = iter(dataset.repeat())
    return lambda: next(batches)


def compiled_layer(x: np.ndarray) -> Callable[[], Any]:
    """Returns a function that augments and standardises one batch on the device."""
    layers = keras.Sequential(
        [
            keras.Input(x.shape[1:], dtype="uint8"),
            data.RandomCropFlip(seed=0),
            data.standardization("cifar10"),
        ]
    )
    images = keras.ops.convert_to_tensor(x)
    if keras.backend.backend() == "jax":
        import jax

        step = jax.jit(lambda state: layers.stateless_call([], state, images, training=True))
        state = [variable.value for variable in layers.non_trainable_variables]

        def run() -> Any:
            nonlocal state
            outputs, state = step(state)
            return outputs.block_until_ready()

        return run
    step = tf.function(lambda: layers(images, training=True), jit_compile=True)

    def run_and_wait() -> Any:
        # One number read back is enough to wait for the device.
        return step()[0, 0, 0, 0].numpy()

    return run_and_wait


def measure(take: Callable[[], Any], batch_size: int, seconds: float) -> dict[str, float]:
    """Takes batches for so many seconds; returns images a second by the clock and by processor time."""
    # What was measured before fills its buffers again, on the same cores; then ours are emptied, so
    # that only what is made in the time is counted.
    time.sleep(min(0.5, seconds))
    start = time.perf_counter()
    while time.perf_counter() - start < seconds / 4:
        take()
    images, start, cpu_start = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        take()
        images += batch_size
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    return {"images_per_second": images / wall, "images_per_cpu_second": images / cpu}


def main() -> None:
    """Measures, prints a table, and writes JSON if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (default: 7)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn (default: 3)")
    parser.add_argument("--batch-size", type=int, default=512, help="images (default: 512)")
    parser.add_argument("--data-dir", help="folder of the data (default: as in load_arrays)")
    saving.add_save(parser)
    parser.add_argument("--small", action="store_true", help="two short rounds on random images")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.rounds, arguments.seconds = 2, 0.2
    x, y, source = load(arguments.data_dir, arguments.small)
    batch_size = arguments.batch_size
    if arguments.rounds < 1 or arguments.seconds <= 0 or not 1 <= batch_size <= len(x):
        parser.error(
            f"--rounds must be at least 1, --seconds above 0, and --batch-size from 1 to {len(x)}"
        )

    take = {
        USUAL: reader(usual(x, y, batch_size)),
        OURS: reader(training_batches(x, y, batch_size)),
        LAYER: compiled_layer(x[:batch_size]),
    }
    turns = {
        name: partial(measure, one, batch_size, arguments.seconds) for name, one in take.items()
    }
    for turn in turns.values():  # Fills caches and shuffle buffers, and compiles.
        turn()
    results = rounds.in_turns(turns, arguments.rounds)
    environment = saving.environment()
    content = {
        "data": source,
        "batch_size": batch_size,
        "environment": environment,
        "rounds": results,
    }
    saving.write(__file__, content, markdown(results, environment["cores"]), save=arguments.save)


def markdown(results: dict[str, list[dict[str, float]]], cores: int) -> str:
    """Returns the table, the usual pipeline first."""
    wall, cpu = (
        {name: [one[key] for one in of] for name, of in results.items()}
        for key in ("images_per_second", "images_per_cpu_second")
    )
    lines = [
        [
            name,
            *(rounds.spread(rounds.ratios(of[name], of[USUAL]), ".1f") for of in (wall, cpu)),
            rounds.spread(wall[name], ",.0f"),
            f"{statistics.median(wall[name]) / cores:,.0f}",
            f"{statistics.median(cpu[name]):,.0f}",
        ]
        for name in results
    ]
    header = [
        "pipeline",
        "of the usual",
        "by processor time",
        "images/s",
        "images/s per core",
        "images per CPU second",
    ]
    return table(header, lines)


if __name__ == "__main__":
    main()

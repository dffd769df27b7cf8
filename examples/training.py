"""One training of a ResNet on CIFAR, from its settings to its results, that may be killed meanwhile.

In its folder a training leaves `settings.json`, `log.csv`, `results.json` and, while it is not done,
`backup/`. What is written is whole or not there.
"""

import importlib.util
import json
import os
import platform
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras

from backup import Backup, Log, read_log, trim_log
from devices import Devices
from keras_onecycle import OneCycle, RangeTestResult, data, lr_find, models

POLICIES = ("one_cycle", "cosine", "piecewise", "constant")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
INPUTS = ("auto", "tf.data", "arrays")
TEST_BATCH_SIZE = 500
PICTURES = ("range_test.png", "schedule.png", "training.png")
FILES = (
    *("settings.json", "range_test.json", "log.csv", "results.json", "model.weights.h5"),
    *PICTURES,
)


@dataclass(frozen=True)
class Settings:
    """Everything that decides how a training ends.

    Args:
        policy: `"one_cycle"`; `"cosine"`, Keras's `CosineDecay` after a warm-up of a twentieth;
            `"piecewise"`, divided by 10 after half and after three quarters; `"constant"`.
        max_lr: The highest learning rate. `None`: what a range test suggests.
        momentum: Momentum of all policies but one cycle with `cycle_momentum`.
        weight_decay: L2 in the loss, whose gradient is `weight_decay * w`, as in the papers.
        validation_freq: Epochs from one evaluation on the test set to the next.
    """

    dataset: str = "cifar10"
    num_train: int | None = None
    depth: int = 56
    epochs: int = 50
    batch_size: int = 512
    policy: str = "one_cycle"
    max_lr: float | None = None
    div_factor: float = 10.0
    final_div_factor: float = 1e4
    pct_start: float = 0.45
    cycle_momentum: bool = True
    base_momentum: float = 0.85
    max_momentum: float = 0.95
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    dropout: float = 0.0
    label_smoothing: float = 0.0
    batch_norm_momentum: float = 0.9
    padding: str = "zero"
    precision: str = "mixed_bfloat16"
    jit: str = "auto"
    steps_per_execution: int = 1
    seed: int = 0
    validation_freq: int = 1
    input: str = "auto"
    synchronized: bool = False


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a file, whole or not at all, with a line for each item."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
    partial.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Reads what `write_json` wrote; a file that is torn or foreign is named."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is torn, or no JSON. Delete {path.parent} to train again. ({error})"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds something else than it should.")
    return content


def environment() -> dict[str, Any]:
    """Returns what a result should be read with: versions, backend and machine."""
    backend = keras.backend.backend()
    module = __import__(backend)
    if backend == "jax":
        devices = [device.device_kind for device in module.devices()]
    else:
        names = module.config.list_physical_devices("GPU")
        devices = [
            module.config.experimental.get_device_details(name).get("device_name", "GPU")
            for name in names
        ] or ["cpu"]
    return {
        "backend": backend,
        "keras": keras.__version__,
        backend: module.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "devices": devices,
    }


def has_tensorflow() -> bool:
    """Whether `tf.data` is to be had."""
    return importlib.util.find_spec("tensorflow") is not None


def has_tensorboard() -> bool:
    """Whether Keras can write logs for TensorBoard, which newer TensorFlows do not bring along."""
    return has_tensorflow() and importlib.util.find_spec("tensorboard") is not None


@dataclass
class Training:
    """A model, what it trains on, and the number of updates of an epoch."""

    settings: Settings
    model: keras.Model
    train: Any
    test: Any

    @property
    def steps(self) -> int:
        """Optimizer updates in an epoch."""
        return len(self.train)


def prepare(
    settings: Settings, devices: Devices, data_dir: Path | None = None, epoch: int = 0
) -> Training:
    """Loads the data and compiles the model, for a training that begins at `epoch`."""
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(settings.precision)
    process = devices.process
    if devices.equal_shares and settings.batch_size % devices.replicas:
        raise ValueError(
            f"--batch-size must be a multiple of the {devices.replicas} devices. "
            f"Received: batch_size={settings.batch_size}"
        )
    if devices.equal_shares and settings.input == "tf.data":
        raise ValueError(
            "Under --strategy data_parallel each process makes its share of a batch from arrays: use "
            "--input arrays. Received: input='tf.data'"
        )
    with_arrays = settings.input == "arrays" or devices.equal_shares
    if settings.input == "auto" and not with_arrays:
        with_arrays = not has_tensorflow()
    # After a restart, other crops than in the epochs that were trained before.
    seed = settings.seed + 1000 * epoch
    classes = 100 if settings.dataset == "cifar100" else 10
    if with_arrays:
        (x, y), (test_x, test_y) = data.load_arrays(settings.dataset, data_dir, settings.num_train)
        train = data.ArrayBatches(
            x, y, settings.batch_size, settings.seed, process=process, epoch=epoch
        )
        test = data.ArrayBatches(
            test_x,
            test_y,
            _test_batch_size(len(test_y), devices.replicas),
            shuffle=False,
            process=process,
        )
    else:
        pipeline = {"cifar10": data.cifar10, "cifar100": data.cifar100}[settings.dataset]
        train, test = pipeline(
            settings.batch_size,
            data_dir,
            seed,
            num_train=settings.num_train,
            padding=settings.padding,
        )
    with devices.scope:
        model = models.resnet(
            settings.depth,
            classes,
            dropout=settings.dropout,
            weight_decay=settings.weight_decay,
            batch_norm_momentum=settings.batch_norm_momentum,
            synchronized=settings.synchronized,
        )
        if with_arrays:
            augmentation = data.RandomCropFlip(mode=settings.padding, seed=seed)
            standardization = data.standardization(settings.dataset)
            inputs = keras.Input((32, 32, 3), dtype="uint8")
            model = keras.Model(inputs, model(standardization(augmentation(inputs))))
        model.compile(
            optimizer(settings, settings.epochs * len(train)),
            loss=_loss(settings, classes),
            metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
            jit_compile=_jit(settings, devices),
            steps_per_execution=settings.steps_per_execution,
        )
        # In the scope: a backup is loaded outside.
        model.optimizer.build(model.trainable_variables)
    return Training(settings, model, train, test)


def optimizer(settings: Settings, total_steps: int) -> keras.Optimizer:
    """Returns SGD with the learning rate of the policy; one cycle comes as a callback."""
    schedules = keras.optimizers.schedules
    # A range test and one cycle begin with a plain number.
    rate: Any = settings.max_lr or 0.1
    if settings.policy == "cosine":
        warm_up = total_steps // 20
        rate = schedules.CosineDecay(
            0.0, total_steps - warm_up, warmup_target=rate, warmup_steps=warm_up
        )
    elif settings.policy == "piecewise":
        boundaries = [total_steps // 2, total_steps * 3 // 4]
        rate = schedules.PiecewiseConstantDecay(boundaries, [rate, rate / 10, rate / 100])
    return keras.optimizers.SGD(rate, momentum=settings.momentum, nesterov=settings.nesterov)


def one_cycle(settings: Settings, total_steps: int | None = None) -> OneCycle:
    """Returns the callback of a training with one cycle."""
    return OneCycle(
        settings.max_lr,
        total_steps,
        pct_start=settings.pct_start,
        cycle_momentum=settings.cycle_momentum,
        base_momentum=settings.base_momentum,
        max_momentum=settings.max_momentum,
        div_factor=settings.div_factor,
        final_div_factor=settings.final_div_factor,
    )


class Seconds(keras.callbacks.Callback):
    """Adds the seconds that an epoch took, evaluation included, to its logs."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs["seconds"] = time.perf_counter() - self._began


def run(
    settings: Settings,
    folder: Path,
    devices: Devices | None = None,
    *,
    data_dir: Path | None = None,
    verbose: int | str = "auto",
    overwrite: bool = False,
    tensorboard: bool = False,
    save_model: bool = False,
) -> dict[str, Any]:
    """Trains, or goes on where a training with these settings was killed; returns the results.

    Args:
        settings: What to train. Settings that differ from those in the folder are an error.
        folder: Path of the folder of this training alone.
        devices: What `devices.set_up` returned. Defaults to one device.
        data_dir: Path of the data. Defaults to `None`: as in `keras_onecycle.data`.
        verbose: As in `fit`.
        overwrite: Whether a training in the folder is deleted, once this one is about to begin.
        tensorboard: Whether to write logs for TensorBoard, which needs it and TensorFlow.
        save_model: Whether to write `model.weights.h5` at the end.

    Returns:
        The content of `results.json`: settings, environment, history and the last test accuracy.

    Raises:
        ValueError: If the folder belongs to other settings, or a file in it is torn.
    """
    devices = devices or Devices()
    if settings.policy not in POLICIES:
        raise ValueError(
            f"`policy` must be one of {', '.join(POLICIES)}. Received: policy={settings.policy!r}"
        )
    if settings.max_lr is None and settings.policy != "one_cycle":
        raise ValueError(
            f"`max_lr` must be given with policy={settings.policy!r}: only one cycle has a range test. "
            "Received: max_lr=None"
        )
    chief = devices.process[0] == 0
    results_path = folder / "results.json"
    backup = Backup(folder / "backup", devices.process[0])
    if not overwrite:
        check_settings(settings, folder)
        if results_path.exists():
            return read_json(results_path) if chief else {}
    begun = 0 if overwrite else max(backup.backups(), default=0)
    training = prepare(settings, devices, data_dir, epoch=begun)
    if overwrite:
        delete(folder)
    if chief:
        write_json(folder / "settings.json", asdict(settings))
    if settings.max_lr is None:
        settings = _range_test(training, folder, chief, verbose)
        training = replace(training, settings=settings)
    epoch = backup.restore(training.model)
    log = folder / "log.csv"
    callbacks: list[keras.callbacks.Callback] = [Seconds()]
    if settings.policy == "one_cycle":
        callbacks.append(one_cycle(settings))
    if chief:
        trim_log(log, epoch)
        callbacks.append(Log(str(log), append=True))
        if tensorboard:
            callbacks.append(keras.callbacks.TensorBoard(str(folder / "tensorboard")))
    # After the log: the row of an epoch is there before its backup is.
    callbacks.append(backup)
    training.model.fit(
        training.train,
        epochs=settings.epochs,
        initial_epoch=epoch,
        validation_data=training.test,
        validation_freq=_evaluated_epochs(settings),
        callbacks=callbacks,
        verbose=verbose if chief else 0,
        shuffle=False,  # The pipelines do it.
    )
    if save_model:
        backup.save_whole(training.model, folder / "model.weights.h5")
    if not chief:
        return {}
    history = read_log(log)
    if [row["epoch"] for row in history] != list(range(settings.epochs)):
        raise ValueError(f"{log} has not one row for each of the {settings.epochs} epochs.")
    seconds = sum(row["seconds"] for row in history)
    results = {
        "settings": asdict(settings),
        "environment": environment(),
        "updates": settings.epochs * training.steps,
        "test_accuracy": history[-1]["val_accuracy"],
        "test_loss": history[-1].get("val_loss"),  # None: diverged.
        "seconds": seconds,
        "images_per_second": settings.epochs * training.steps * settings.batch_size / seconds,
        "history": history,
    }
    write_json(results_path, results)
    for path in backup.backups().values():
        path.unlink()
    return results


def is_training(folder: Path) -> bool:
    """Whether the folder holds a training of these examples."""
    path = folder / "settings.json"
    return path.exists() and {"policy", "depth", "max_lr"} <= read_json(path).keys()


def delete(folder: Path) -> None:
    """Deletes a training: what `run` and the examples write, and nothing else."""
    if not is_training(folder):
        return
    for name in ("backup", "tensorboard"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def check_settings(settings: Settings, folder: Path) -> None:
    """Raises a `ValueError` if the folder belongs to a training with other settings."""
    path = folder / "settings.json"
    if not path.exists():
        return
    wanted, found = asdict(settings), read_json(path)
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if differing:
        there = ", ".join(f"{name}={found.get(name)!r}" for name in differing)
        asked = ", ".join(f"{name}={wanted[name]!r}" for name in differing)
        raise ValueError(
            f"The training in {folder} has other settings: {there}. Go on with those, or take another "
            f"folder. Received: {asked}"
        )


def _range_test(training: Training, folder: Path, chief: bool, verbose: int | str) -> Settings:
    path = folder / "range_test.json"
    if path.exists():
        result = RangeTestResult.load(path)
    else:
        result = lr_find(
            training.model,
            training.train,
            min_lr=1e-4,
            verbose=verbose if chief else 0,
            shuffle=False,
        )
        if chief:
            result.save(path)
    try:
        return replace(training.settings, max_lr=result.suggest())
    except ValueError as error:
        raise ValueError(
            f"{error}. The curve is in {path}. To train at a rate of your own, begin anew with --max-lr and "
            "--overwrite."
        ) from error


def _evaluated_epochs(settings: Settings) -> Sequence[int]:
    """Every `validation_freq`th epoch, and the last."""
    every = set(range(settings.validation_freq, settings.epochs + 1, settings.validation_freq))
    return sorted(every | {1, settings.epochs})


def _loss(settings: Settings, classes: int) -> keras.losses.Loss:
    if not settings.label_smoothing:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def smoothed(y_true: Any, y_pred: Any) -> Any:
        return keras.losses.categorical_crossentropy(
            keras.ops.one_hot(keras.ops.reshape(y_true, (-1,)), classes),
            y_pred,
            from_logits=True,
            label_smoothing=settings.label_smoothing,
        )

    return smoothed


def _jit(settings: Settings, devices: Devices) -> bool | str:
    if settings.jit != "auto":
        return settings.jit == "on"
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # XLA is slower on CPUs, and Keras does not train with it under `MirroredStrategy`.
        return devices.replicas == 1 and bool(tf.config.list_physical_devices("GPU"))
    return "auto"


def _test_batch_size(images: int, devices: int) -> int:
    """Returns the largest size, up to `TEST_BATCH_SIZE`, that leaves no remainder anywhere."""
    sizes = range(min(TEST_BATCH_SIZE, images), 0, -1)
    size = next((n for n in sizes if images % n == 0 and n % devices == 0), None)
    if size is None:
        raise ValueError(f"The {images} test images cannot be shared equally by {devices} devices.")
    return size

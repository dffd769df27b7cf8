"""One training of a ResNet on CIFAR, from its settings to its results.

In its folder a training leaves `settings.json`, `log.csv`, `results.json` and, while it is not done,
`backup/`. resume.py has how it goes on after a kill.
"""

import importlib.util
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras

from examples.cifar10 import data
from examples.cifar10.devices import Devices
from examples.cifar10.precision import fast_precision, processor
from examples.cifar10.resnet import resnet
from examples.cifar10.resume import Backup, Log, check_settings, read_log, save_weights
from examples.cifar10.settings import POLICIES, Settings, read_json, write_json
from keras_onecycle import OneCycle, RangeTestResult, lr_find

TEST_BATCH_SIZE = 500


def environment() -> dict[str, Any]:
    """Returns what a result should be read with: versions, backend and machine."""
    backend = keras.backend.backend()
    module = __import__(backend)
    if backend == "jax":
        devices = [device.device_kind for device in module.devices()]
    elif backend == "torch":
        count = module.cuda.device_count()
        devices = [module.cuda.get_device_name(index) for index in range(count)] or ["cpu"]
    else:
        names = module.config.list_physical_devices("GPU")
        devices = [
            module.config.experimental.get_device_details(name).get("device_name", "GPU")
            for name in names
        ] or ["cpu"]
    on_cpu = set(devices) == {"cpu"}
    return {
        "backend": backend,
        "keras": keras.__version__,
        backend: module.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": module.get_num_threads() if on_cpu and backend == "torch" else os.cpu_count(),
        "devices": [processor()] if on_cpu else devices,
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
        model = resnet(
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
        start_epoch=0,
        pct_start=settings.pct_start,
        cycle_momentum=settings.cycle_momentum,
        base_momentum=settings.base_momentum,
        max_momentum=settings.max_momentum,
        div_factor=settings.div_factor,
        final_div_factor=settings.final_div_factor,
    )


def run(
    settings: Settings,
    folder: Path,
    devices: Devices | None = None,
    *,
    data_dir: Path | None = None,
    verbose: int | str = "auto",
    backup_freq: int = 1,
    tensorboard: bool = False,
    save_model: bool = False,
) -> dict[str, Any]:
    """Trains, or goes on where a training with these settings was killed, and returns the results.

    Args:
        settings: What to train. Settings that differ from those in the folder are an error.
        folder: Path of the folder of this training alone.
        devices: What `devices.set_up` returned. Defaults to one device.
        data_dir: Path of the data. Defaults to `None`: as in `data.load_arrays`.
        verbose: As in `fit`.
        backup_freq: Epochs from one backup to the next, which a kill loses at most.
        tensorboard: Whether to write logs for TensorBoard, which needs it and TensorFlow.
        save_model: Whether to write `model.weights.h5` at the end.

    Returns:
        The content of `results.json`: settings, environment, history and the last test accuracy.

    Raises:
        ValueError: If the folder belongs to other settings, or a file in it is damaged.
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
    backup = Backup(folder / "backup", devices.process[0], backup_freq)
    if settings.precision == "auto":
        settings = _with_precision(settings, folder / "settings.json", chief)
    check_settings(settings, folder)
    if results_path.exists():
        return read_json(results_path) if chief else {}
    training = prepare(settings, devices, data_dir, epoch=backup.epochs)
    if chief:
        write_json(folder / "settings.json", asdict(settings))
    if settings.max_lr is None:
        settings = _range_test(training, folder, chief, verbose)
        training = replace(training, settings=settings)
    epoch = backup.restore(training.model)
    log = folder / "log.csv"
    callbacks: list[keras.callbacks.Callback] = []
    if settings.policy == "one_cycle":
        callbacks.append(one_cycle(settings))
    if chief:
        callbacks.append(Log(log))
        if tensorboard:
            callbacks.append(keras.callbacks.TensorBoard(str(folder / "tensorboard")))
    # After the log: an epoch that has a backup has a row.
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
        save_weights(training.model, folder / "model.weights.h5", devices.process[0])
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
    shutil.rmtree(backup.folder, ignore_errors=True)  # None, in a short training.
    return results


def _with_precision(settings: Settings, stored: Path, chief: bool) -> Settings:
    """Returns the settings with the precision of the training that is resumed, or a fast one."""
    if stored.exists():
        precision, why = read_json(stored)["precision"], "as before"
    else:
        precision, why = fast_precision()
    if chief:
        print(f"Precision: {precision}, {why}.")
    return replace(settings, precision=precision)


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
            f"{error}. The curve is in {path}. To train at a rate of your own, give --max-lr and another "
            "--out."
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


def _test_batch_size(images: int, devices: int) -> int:
    """Returns the largest size, up to `TEST_BATCH_SIZE`, that leaves no remainder anywhere."""
    sizes = range(min(TEST_BATCH_SIZE, images), 0, -1)
    size = next((n for n in sizes if images % n == 0 and n % devices == 0), None)
    if size is None:
        raise ValueError(f"The {images} test images cannot be shared equally by {devices} devices.")
    return size

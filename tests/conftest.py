"""Tests run on the backend that `KERAS_BACKEND` names, without a display and in any order."""

import gc
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Two devices, for the tests of training on several; one test process uses few threads anyway. And
# without optimization: XLA compiles in half the time, which a few steps do not make up for.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0",
)

import keras
import pytest

# What the tests import, their child processes find too. TensorFlow only where it is the backend:
# otherwise Keras imports it in each of them all the same, for eight seconds.
_hidden = str(Path(__file__).parent / "without_tensorflow")
_first = [] if keras.backend.backend() == "tensorflow" else [_hidden]
os.environ["PYTHONPATH"] = os.pathsep.join([*_first, *sys.path])

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )

if find_spec("tensorflow"):
    import tensorflow as tf
    from tensorflow.python.distribute.input_lib import DistributedDataset

    # When an iterator is destroyed, the thread that tunes its pipeline can miss that it has to end,
    # and is then waited for up to a minute.
    _untuned = tf.data.Options()
    _untuned.autotune.enabled = False
    _iterate = tf.data.Dataset.__iter__
    tf.data.Dataset.__iter__ = lambda dataset: _iterate(dataset.with_options(_untuned))
    _distribute = tf.distribute.Strategy.experimental_distribute_dataset
    tf.distribute.Strategy.experimental_distribute_dataset = (
        lambda strategy, dataset, options=None: _distribute(
            strategy, dataset.with_options(_untuned), options
        )
    )

    # TensorFlow 2.21 ends with a segmentation fault, once in some two thousand times, when a strategy's
    # iterator is destroyed while it still fetches ahead. So they are kept to the end.
    _kept = []
    _iterate_distributed = DistributedDataset.__iter__

    def _iterate_and_keep(dataset: Any) -> Any:
        _kept.append(_iterate_distributed(dataset))
        return _kept[-1]

    DistributedDataset.__iter__ = _iterate_and_keep


_KERAS_3_11 = keras.__version__.startswith("3.11.")

# By the test's name, or the name and what is in its brackets.
NOT_ON_TORCH = {
    "test_setting_momentum_by_hand_changes_nothing": "its step is eager",
    "test_a_step_that_was_traced_before_is_told": "its step is eager",
    "test_the_model_is_left_to_itself_between_steps": "its step is eager",
    "test_what_the_update_does_not_use_is_told_and_not_shown[<lambda>-momentum]": "reading is using",
    "test_the_class_of_an_optimizer_can_be_swapped": "its optimizers have classes of their own",
    "test_a_training_loop_of_ones_own": "a loop of TensorFlow or JAX",
    "test_any_float_reaches_the_step[<lambda>-momentum-0.9]": "functions of TensorFlow or JAX",
    "test_another_schedule_in_mid_fit_is_refused_by_name[<lambda>0]": "`steps_per_execution`",
    "test_another_schedule_in_mid_fit_is_refused_by_name[<lambda>1]": "`steps_per_execution`",
    "test_weight_decay_is_l2_whose_gradient_is_wd_times_w_on_kernels": "gradients of TensorFlow or JAX",
    "test_the_state_of_a_stateful_rnn_is_put_back": "Keras does not train a stateful RNN there",
    "test_weights_in_half_precision[bfloat16]": "Keras's own Nadam does not train in bfloat16 there",
    "test_a_distributed_model_is_refused": "no `keras.distribution`",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if keras.backend.backend() == "torch":
        for item in items:
            reason = NOT_ON_TORCH.get(item.name) or NOT_ON_TORCH.get(item.name.partition("[")[0])
            if reason:
                item.add_marker(pytest.mark.skip(reason=f"on PyTorch: {reason}"))


def pytest_collection_finish() -> None:
    # What the imports left is looked through in every collection of garbage, for half a second.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Any:
    try:
        return (yield)
    except ValueError as error:
        if "must be 1 with the PyTorch backend" in str(error):
            pytest.skip("Keras has no `steps_per_execution` on PyTorch")
        if "On PyTorch, a step with `jit_compile=True`" in str(error):
            pytest.skip("refused by name")
        raise
    except AttributeError as error:
        if re.search("optimizers' has no attribute '(OptimizerMap|ScheduleFreeAdamW)'", str(error)):
            pytest.skip("newer than this Keras")
        if "'ResourceVariable' object has no attribute 'path'" in str(error) and _KERAS_3_11:
            pytest.skip("Keras's own Muon does not train on TensorFlow")
        raise


@pytest.fixture(autouse=True)
def _fresh() -> None:
    keras.utils.set_random_seed(0)
    # Without a collection of garbage, which takes longer than most tests.
    keras.utils.clear_session(free_memory=False)

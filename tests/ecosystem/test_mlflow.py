"""What MLflow's autologging writes beside `OneCycle`, and beside a range test."""

from collections.abc import Iterator
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest

import by_hand
import reference
from keras_onecycle import OneCycle, lr_find

EPOCHS, UPDATES = 2, 12


@pytest.fixture(autouse=True)
def _autologging(tmp_path: Path) -> Iterator[None]:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    mlflow.create_experiment("test", artifact_location=(tmp_path / "files").as_uri())
    mlflow.set_experiment("test")
    yield
    mlflow.keras.autolog(disable=True)


def logged(name: str) -> np.ndarray:
    """The values of a metric in the last run, in the order of their steps."""
    run_id = mlflow.last_active_run().info.run_id
    history = mlflow.MlflowClient().get_metric_history(run_id, name)
    return np.array([m.value for m in sorted(history, key=lambda metric: metric.step)])


def test_each_epoch() -> None:
    mlflow.keras.autolog()
    x, y = reference.data(96)
    model = by_hand.compiled()
    model.fit(x, y, epochs=EPOCHS, callbacks=[OneCycle(0.05)], **by_hand.FIT)
    mlflow.flush_async_logging()
    # What the user gave the optimizer.
    assert float(mlflow.last_active_run().data.params["optimizer_learning_rate"]) == np.float32(
        0.01
    )
    for name, wanted in by_hand.values(UPDATES, 0.05).items():
        np.testing.assert_allclose(logged(name), wanted[[5, 11]], rtol=1e-5)
    wanted_model, losses = by_hand.trained(x, y, EPOCHS, 0.05)
    np.testing.assert_allclose(logged("loss"), np.reshape(losses, (2, -1)).mean(axis=1), rtol=1e-4)
    reference.assert_same_weights(model, wanted_model)
    by_hand.assert_unscheduled(model.optimizer)
    (saved,) = mlflow.search_logged_models(output_format="list")
    loaded = mlflow.keras.load_model(saved.model_uri)
    by_hand.assert_unscheduled(loaded.optimizer)
    reference.assert_same_weights(loaded, wanted_model)


def test_each_update_from_the_history() -> None:
    mlflow.keras.autolog(log_models=False)
    x, y = reference.data(96)
    cycle = OneCycle(0.05)
    with mlflow.start_run():
        by_hand.compiled().fit(x, y, epochs=EPOCHS, callbacks=[cycle], **by_hand.FIT)
        for name, values in cycle.history.items():
            for step, value in enumerate(values):
                mlflow.log_metric(f"update/{name}", value, step)
    for name, wanted in by_hand.values(UPDATES, 0.05).items():
        np.testing.assert_allclose(logged(f"update/{name}"), wanted, rtol=1e-5)


def test_a_range_test_is_a_run_and_leaves_no_trace_in_the_model() -> None:
    mlflow.keras.autolog(log_models=False)
    x, y = reference.data(96)
    model = by_hand.compiled()
    before = [keras.ops.convert_to_numpy(variable) for variable in model.variables]
    result = lr_find(model, x, y, num_steps=30, **by_hand.FIT)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    by_hand.assert_unscheduled(model.optimizer)
    mlflow.flush_async_logging()
    assert len(mlflow.search_runs()) == 1
    # Of each time over the data, 6 batches, the last loss.
    np.testing.assert_allclose(logged("loss"), result.loss[5::6], rtol=1e-5)
    mlflow.keras.autolog(disable=True)
    lr_find(model, x, y, num_steps=30, **by_hand.FIT)
    assert len(mlflow.search_runs()) == 1

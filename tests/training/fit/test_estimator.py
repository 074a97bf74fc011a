import hashlib
import inspect
import os
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import lookalike
from lookalike.training.artifact.encoder import load_encoder
from lookalike.training.config import TrainConfig
from lookalike.training.errors import TrainingError
from lookalike.training.fit.estimator import AutoencoderEmbedder
from lookalike.training.fit.job import train
from tests.factories import ROOT, array_rows, blobs, quick

QUICK: dict[str, Any] = {"hidden": (8,), "latent_dim": 3, "epochs": 3, "batch_size": 16, "device": "cpu"}
ROWS = blobs()

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
"""Most fits here train for a few epochs only."""


def embedder(**more: Any) -> AutoencoderEmbedder:
    return AutoencoderEmbedder(**{**QUICK, **more})


def fitted(**more: Any) -> AutoencoderEmbedder:
    return embedder(**more).fit(ROWS)


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def one() -> AutoencoderEmbedder:
    return fitted()


@parametrize_with_checks([AutoencoderEmbedder()])
@pytest.mark.filterwarnings("default")  # scikit-learn's checks emit warnings themselves
def test_passes_scikit_learns_estimator_checks(estimator: AutoencoderEmbedder, check: Any) -> None:
    check(estimator)


EVERY_CHECK = """
from sklearn.utils.estimator_checks import check_estimator
from lookalike import AutoencoderEmbedder
done = check_estimator(AutoencoderEmbedder(hidden=(8,), epochs=2), on_skip=None, on_fail="raise")
print(len(done), {check["status"] for check in done}, {check["expected_to_fail"] for check in done})
"""


@pytest.mark.slow
def test_skips_and_excuses_none_of_scikit_learns_checks() -> None:
    environment = {
        **os.environ,
        "SCIPY_ARRAY_API": "1",
        "OMP_NUM_THREADS": "1",
    }  # SCIPY_ARRAY_API must be set before SciPy is loaded
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", EVERY_CHECK], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    count, _, message = done.stdout.strip().partition(" ")
    assert message == "{'passed'} {False}", done.stderr
    assert int(count) >= 47


def test_the_package_exports_the_estimator() -> None:
    assert lookalike.AutoencoderEmbedder is AutoencoderEmbedder


def test_defaults_equal_the_defaults_of_the_settings() -> None:
    assert AutoencoderEmbedder()._config() == TrainConfig()
    assert AutoencoderEmbedder().get_params().keys() == set(inspect.signature(AutoencoderEmbedder).parameters)


def test_parameters_map_to_settings() -> None:
    config = AutoencoderEmbedder(
        latent_dim=5,
        hidden=np.array([7, 6]),  # type: ignore[arg-type]
        activation="tanh",
        batch_norm=False,
        dropout=0.25,
        loss="huber",
        lr=np.float32(0.5),  # type: ignore[arg-type]
        corruption="masking",
        corruption_level=0.125,
        scale="range",
        validation=0.2,
        epochs=np.int64(4),  # type: ignore[arg-type]
        batch_size=9,
        patience=2,
        device="cpu",
        settings=("optimizer.schedule=constant", "model.dropout=0.5"),
        random_state=6,
    )._config()
    model, fit = config.model, config.fit
    assert (model.latent_dim, model.hidden, model.activation) == (5, (7, 6), "tanh")
    assert (model.batch_norm, model.dropout) == (False, 0.5)  # settings win
    assert (config.loss.kind, config.optimizer.lr, config.optimizer.schedule) == ("huber", 0.5, "constant")
    assert (config.corruption.kind, config.corruption.level) == ("masking", 0.125)
    assert (config.data.scale, config.data.validation) == ("range", 0.2)
    assert (fit.epochs, fit.batch_size, fit.patience, fit.device, fit.seed) == (4, 9, 2, "cpu", 6)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"latent_dim": 0}, "model.latent_dim: expected .*greater than or equal to 1"),
        ({"activation": "step"}, "model.activation: expected .*'relu'"),
        ({"lr": float("nan")}, "optimizer.lr"),
        ({"hidden": None}, "model.hidden"),
        ({"settings": ("model.depth=3",)}, "model.depth"),
        ({"random_state": "one"}, "cannot be used to seed"),
        ({"random_state": -1}, "fit.seed"),
        ({"input_shape": (2, 2)}, r"rows of shape \(2, 2\), found rows of 6 columns"),
        ({"batch_size": 1}, "at least 2 rows in a batch"),
    ],
)
def test_an_invalid_parameter_raises_a_value_error_with_its_name(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fitted(**parameters)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", [0, 1])
def test_exports_the_same_artifact_as_a_run_bit_for_bit(tmp_path: Path, dtype: Any, seed: int) -> None:
    lines = ["model.dropout=0.2", "corruption.kind=salt_and_pepper", "corruption.level=0.1", f"fit.seed={seed}"]
    run = train(array_rows(ROWS), quick(*lines), tmp_path / "run").encoder
    estimator = embedder(dropout=0.2, corruption="salt_and_pepper", corruption_level=0.1, random_state=seed)
    exported = estimator.fit(ROWS.astype(dtype)).export(tmp_path / "encoder")
    assert weights(tmp_path / "encoder") == weights(tmp_path / "run" / "encoder")
    differing = {key for key in run.header if run.header[key] != exported.header[key]}
    assert differing <= {"data", "history"}  # the rows' name, and seconds
    assert run.header["data"]["sha256"] == exported.header["data"]["sha256"]


def test_fits_pictures_as_a_run_does(tmp_path: Path) -> None:
    pictures = blobs(60, 64)
    run = train(
        array_rows(pictures.reshape(60, 8, 8), pixels=True),
        quick("model.kind=conv", "model.channels=[2]"),
        tmp_path / "run",
    )
    estimator = embedder(input_shape=(8, 8), settings=("model.kind=conv", "model.channels=[2]")).fit(pictures)
    exported = estimator.export(tmp_path / "encoder")
    assert exported.input_shape == run.encoder.input_shape == (8, 8)
    assert weights(tmp_path / "encoder") == weights(tmp_path / "run" / "encoder")


def test_transform_equals_the_exported_encoder(one: AutoencoderEmbedder, tmp_path: Path) -> None:
    encoder = one.export(str(tmp_path / "encoder"))
    embeddings = one.transform(ROWS)
    assert embeddings.shape == (60, 3)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, encoder.encode(ROWS), atol=1e-5)
    np.testing.assert_allclose(one.inverse_transform(embeddings), encoder.reconstruct(ROWS), atol=1e-5)


def test_transforms_more_rows_than_one_block(one: AutoencoderEmbedder) -> None:
    many = np.tile(ROWS, (40, 1))  # 2,400
    assert np.array_equal(one.transform(many), np.tile(one.transform(ROWS), (40, 1)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_preserves_the_float_dtype(one: AutoencoderEmbedder, dtype: Any) -> None:
    embeddings = one.transform(ROWS.astype(dtype))
    assert embeddings.dtype == one.inverse_transform(embeddings).dtype == dtype
    assert one.transform(ROWS.astype(np.int64)).dtype == np.float64


def test_inverse_transform_returns_the_unit_of_the_rows() -> None:
    far = 1_000 * ROWS + 5_000
    estimator = embedder(latent_dim=6, corruption="none", epochs=300, settings=("model.latent_noise=0",)).fit(far)
    back = estimator.inverse_transform(estimator.transform(far))
    assert r2_score(far, back, multioutput="variance_weighted") > 0.95


def test_the_score_is_the_share_of_variance_kept(one: AutoencoderEmbedder) -> None:
    back = one.inverse_transform(one.transform(ROWS))
    lost = np.square(ROWS - back, dtype=np.float64).sum() / np.square(ROWS - ROWS.mean(axis=0), dtype=np.float64).sum()
    assert one.score(ROWS) == pytest.approx(1 - lost, abs=1e-6)
    assert one.score(ROWS, y=np.zeros(60)) == one.score(ROWS)


def test_the_score_of_a_linear_autoencoder_approaches_that_of_pca() -> None:
    # Baldi and Hornik 1989: the best linear autoencoder spans the principal subspace, and no linear map does better.
    explained = PCA(2).fit(ROWS).explained_variance_ratio_.sum()
    parameters = {"activation": "linear", "hidden": (), "latent_dim": 2, "loss": "mse", "corruption": "none"}
    settings = ("model.latent_noise=0", "data.scale=center", "fit.epochs=300", "optimizer.lr=0.01")
    score = embedder(**parameters, settings=settings).fit(ROWS).score(ROWS)
    assert explained - 0.02 < score <= explained + 1e-6


def test_the_random_state_determines_the_result() -> None:
    one, same, other = (fitted(random_state=state).transform(ROWS) for state in (3, 3, 4))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    drawn, again = (fitted(random_state=np.random.RandomState(3)).transform(ROWS) for _ in range(2))
    assert np.array_equal(drawn, again)
    assert not np.array_equal(drawn, one)


def test_fit_leaves_the_callers_random_state_and_threads_unchanged() -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    drawn, threads = torch.get_rng_state(), torch.get_num_threads()
    fitted()
    assert torch.equal(torch.get_rng_state(), drawn)
    assert torch.get_num_threads() == threads
    assert np.random.random() == np.random.RandomState(5).random()


@pytest.mark.parametrize("verbose", [True, False])
def test_shows_progress_only_if_verbose(verbose: bool, capsys: pytest.CaptureFixture[str]) -> None:
    fitted(verbose=verbose)
    message = capsys.readouterr()
    assert message.out == ""
    assert ("3/3" in message.err) is verbose
    assert (message.err == "") is not verbose


def test_works_as_a_step_of_a_pipeline() -> None:
    digits, labels = load_digits(return_X_y=True)
    pipeline = make_pipeline(
        StandardScaler(),
        AutoencoderEmbedder(latent_dim=24, hidden=(64,), epochs=15, lr=0.01, device="cpu"),
        LogisticRegression(max_iter=1_000),
    )
    assert pipeline.fit(digits[:1_200], labels[:1_200]).score(digits[1_200:], labels[1_200:]) > 0.8
    assert pipeline[:2].get_feature_names_out()[-1] == "autoencoderembedder23"


def test_a_grid_search_finds_the_wider_bottleneck() -> None:
    # One dimension can keep about a sixth of the variance of six independent columns.
    rows = np.random.default_rng(0).normal(size=(150, 6))
    parameters = {"latent_dim": [1, 6], "lr": np.logspace(-2, -1.5, 2)}
    tried = embedder(hidden=(16,), corruption="none", loss="mse", epochs=40, settings=("model.latent_noise=0",))
    search = GridSearchCV(tried, parameters, cv=3).fit(rows)
    assert search.best_params_["latent_dim"] == 6
    assert search.cv_results_["mean_test_score"][:2].max() < 0.4 < 0.8 < search.best_score_


def test_remembers_column_names_and_requires_them_in_transform(tmp_path: Path) -> None:
    table = pa.table({name: ROWS[:, i] for i, name in enumerate("abcdef")})
    estimator = embedder().fit(table)
    assert estimator.feature_names_in_.tolist() == list("abcdef")
    assert estimator.transform(table).shape == (len(ROWS), 3)  # as of a table: a column may be missing
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.transform(table.select(list("fedcba")))
    assert [column["name"] for column in estimator.export(tmp_path / "encoder").header["columns"]] == list("abcdef")


def test_outputs_a_data_frame_if_configured() -> None:
    pandas = pytest.importorskip("pandas")
    embeddings = fitted().set_output(transform="pandas").transform(ROWS)
    assert isinstance(embeddings, pandas.DataFrame)
    assert list(embeddings.columns) == list(fitted().get_feature_names_out())


def test_feature_names_out() -> None:
    names = fitted().get_feature_names_out()
    assert names.tolist() == ["autoencoderembedder0", "autoencoderembedder1", "autoencoderembedder2"]


def test_a_clone_is_unfitted_and_a_pickled_copy_transforms_the_same(one: AutoencoderEmbedder) -> None:
    assert np.array_equal(pickle.loads(pickle.dumps(one)).transform(ROWS), one.transform(ROWS))
    copied = clone(one)
    assert copied.get_params() == one.get_params()
    with pytest.raises(NotFittedError):
        copied.transform(ROWS)


@pytest.mark.parametrize("method", ["transform", "inverse_transform", "score"])
def test_an_unfitted_estimator_raises(method: str) -> None:
    with pytest.raises(NotFittedError):
        getattr(embedder(), method)(ROWS)


def test_an_estimator_whose_fit_failed_is_not_fitted(tmp_path: Path) -> None:
    estimator = embedder(lr=-1.0)
    with pytest.raises(ValueError, match=r"optimizer\.lr"):
        estimator.fit(ROWS)
    with pytest.raises(NotFittedError):
        estimator.export(tmp_path / "encoder")


def test_a_failed_second_fit_discards_the_first() -> None:
    estimator = fitted()
    with pytest.raises(ValueError, match=r"optimizer\.lr"):
        estimator.set_params(lr=-1.0).fit(ROWS[:, :5])
    with pytest.raises(NotFittedError):
        estimator.transform(ROWS[:, :5])


@pytest.mark.filterwarnings("default")
def test_warns_only_if_a_run_does_not_learn() -> None:
    slow = embedder(lr=1e-6, settings=("model.latent_noise=0",))
    with pytest.warns(ConvergenceWarning, match=r"learning-rate-too-low \(likely\): .* --set optimizer\.lr=0\.002"):
        slow.fit(ROWS)
    assert slow.findings_[0].cause == "learning-rate-too-low"
    rows = load_digits().data
    with warnings.catch_warnings(action="error"):
        assert AutoencoderEmbedder(hidden=(64,), epochs=30, device="cpu").fit(rows).findings_ == []


@pytest.mark.parametrize("shape", [6, "23", (2.0, 3.0), (-2, -3), (), np.ones((2, 3), int)])
def test_refuses_an_input_shape_that_is_not_a_tuple_of_positive_integers(shape: Any) -> None:
    with pytest.raises(ValueError, match="input_shape: expected None, or whole numbers from 1"):
        embedder(input_shape=shape).fit(ROWS)


def test_parallel_fits_equal_a_single_fit() -> None:
    alone = fitted().transform(ROWS)
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda _: fitted().transform(ROWS), range(3)))
    assert all(np.array_equal(one, alone) for one in together)


@pytest.mark.parametrize("settings", ["model.dropout=0.1", {"model": {"dropout": 0.1}}, None, 5, [5]])
def test_refuses_settings_that_are_not_a_list_of_lines(settings: Any) -> None:
    with pytest.raises(ValueError, match="settings: expected a list of lines"):
        embedder(settings=settings).fit(ROWS)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.full((5, 2), np.nan), "Input X contains NaN"),
        (
            np.full((5, 2), 1e300),
            "X, row 0, column 0: expected a finite number that fits float32, found infinity or too",
        ),
        (np.zeros((1, 2)), "Found array with 1 sample"),
        (np.zeros((5, 0)), "0 feature"),
        (np.zeros(5), "Expected 2D array"),
    ],
)
def test_refuses_invalid_rows_with_scikit_learns_messages(rows: NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        embedder().fit(rows)


def test_refuses_rows_of_another_width(one: AutoencoderEmbedder) -> None:
    with pytest.raises(ValueError, match="X has 5 features, but AutoencoderEmbedder is expecting 6"):
        one.transform(ROWS[:, :5])
    with pytest.raises(ValueError, match="X has 6 features, but embeddings have 3"):
        one.inverse_transform(ROWS)


def test_a_nonfinite_loss_raises_an_error_with_a_remedy() -> None:
    with pytest.raises(TrainingError, match="learning-rate-too-high"):
        fitted(lr=1e20, batch_norm=False, settings=("optimizer.kind=sgd",))


def test_export_replaces_only_an_encoder_artifact(one: AutoencoderEmbedder, tmp_path: Path) -> None:
    precious = tmp_path / "folder" / "precious"
    precious.parent.mkdir()
    precious.write_text("mine")
    for target in (precious.parent, precious):
        with pytest.raises(TrainingError, match="a new folder, or an encoder artifact to replace"):
            one.export(target)
    assert precious.read_text() == "mine"
    one.export(tmp_path / "encoder")
    assert one.export(tmp_path / "encoder").digest == load_encoder(tmp_path / "encoder").digest


def test_reports_its_epochs(one: AutoencoderEmbedder) -> None:
    assert [epoch.number for epoch in one.history_] == [1, 2, 3]
    assert one.n_iter_ == 3


def test_has_no_partial_fit_and_documents_why() -> None:
    assert not hasattr(AutoencoderEmbedder(), "partial_fit")
    assert "no `partial_fit`" in (AutoencoderEmbedder.__doc__ or "")


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_a_column_far_from_zero_is_fitted_like_the_same_column_near_zero(dtype: Any, tmp_path: Path) -> None:
    near = (8 * ROWS.astype(np.float64)).round()
    far = (near + 1.76e9 * np.eye(6)[0]).astype(dtype)
    one, other = embedder().fit(near), embedder().fit(far)
    np.testing.assert_array_equal(other.transform(far), one.transform(near))
    back = other.inverse_transform(other.transform(far))
    np.testing.assert_allclose(back[:, 0] - 1.76e9, one.inverse_transform(one.transform(near))[:, 0], atol=1e-6)
    assert other.score(far) == pytest.approx(one.score(near))
    other.export(tmp_path / "encoder")
    exported = load_encoder(tmp_path / "encoder")
    np.testing.assert_allclose(exported.encode(near.astype(np.float32)), one.transform(near), atol=1e-5)

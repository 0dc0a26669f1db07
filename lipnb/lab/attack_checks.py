"""The book's attack beside those of the Adversarial Robustness Toolbox (ART), image by image (claim A2).

``python -m lipnb.lab.attack_checks`` trains three of the recorded classifiers again, attacks each with both, and prints
what came of it as JSON; ``--record`` keeps it as ``book/results/attacks/art.json``. ART is no part of the environment:
``.venv/bin/python -m pip install adversarial-robustness-toolbox==1.20.1`` adds it. It needs Keras on TensorFlow.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import util
from typing import Any

import keras
import numpy as np
from keras import ops

from lipnb.bounds import lipschitz_bound
from lipnb.estimates import certified_radius
from lipnb.lab import attack_reports, classifiers, data, keras_reports, machine, paths, records, supervised
from lipnb.lab import supervised_results as results
from lipnb.lab.attacks import Attack, attack_distance, attacker
from lipnb.lab.sensitivity import FARTHEST, SAFE

__all__ = ["PROTOCOL", "LibraryAttacks", "chosen", "main", "nearest", "outcome", "report", "retrained"]

LIBRARY = "adversarial-robustness-toolbox"
PROTOCOL: dict[str, Any] = {
    "classifiers": "the recorded runs of these methods at the grid's strength, batch 64, seed 0, trained again",
    "methods": ["none", "l2", "adversarial"],
    "images": "those that each run attacked, the first ones of the test set; broken counts only where the label was right",
    "radii": [0.25, 0.5, 1.0, 2.0, 4.0],
    "steps": 20,
    "step": "2.5 * radius / steps",
    "restarts": 0,
    "start": "the image itself; no clipping to the range of images",
    "distance": "attack_distance: an attack at radius 64, 7 bisections, each perturbation shortened along itself",
    "attacks": {
        "same": "ART's ProjectedGradientDescent on our loss, the margin: the same attack, written by others",
        "usual": "ART's ProjectedGradientDescent on its usual loss, cross-entropy",
        "strong": "ART's AutoProjectedGradientDescent on the margin, 100 steps, 5 random starts: more effort than ours",
        "deepfool": "ART's DeepFool, no radius: distance alone",
    },
    "rule": attack_reports.RULE,
}


class LibraryAttacks:
    """ART's attacks on ``network`` with logits of ``classes`` classes, each as an :data:`Attack` of this book.

    Raises ImportError where ART is not installed, RuntimeError where Keras does not run on TensorFlow.
    """

    def __init__(self, network: keras.Model, classes: int) -> None:
        if util.find_spec("art") is None:
            raise ImportError(
                f"the comparison needs the package {LIBRARY}, which is no part of the environment: install it with "
                f"`{sys.executable} -m pip install {LIBRARY}==1.20.1`. Received: no module art"
            )
        if keras.backend.backend() != "tensorflow":
            raise RuntimeError(
                f"ART attacks Keras's models on TensorFlow only. Received: {keras.backend.backend()}"
            )
        self._network, self._classes = network, classes

    def gradient_descent(self, loss: Any, *, steps: int) -> Attack:
        """ART's projected gradient descent from the image itself, with the radius and the steps of our attack."""
        from art.attacks.evasion import ProjectedGradientDescent

        def attack(x: np.ndarray, labels: np.ndarray, radius: Any) -> np.ndarray:
            radii = np.broadcast_to(np.asarray(radius, np.float32), len(x)).reshape(-1, *[1] * (x.ndim - 1))
            step = np.maximum(
                2.5 / steps * radii, np.finfo(np.float32).tiny
            )  # ART refuses a step of length 0
            options = {"norm": 2, "max_iter": steps, "num_random_init": 0, "batch_size": len(x)}
            method = ProjectedGradientDescent(
                self._estimator(loss), eps=radii, eps_step=step, verbose=False, **options
            )
            return method.generate(x, labels)

        return attack

    def auto_gradient_descent(self, loss: Any, *, steps: int = 100, starts: int = 5, seed: int = 0) -> Attack:
        """ART's Auto-PGD, for one radius at a time; ART draws its starts from NumPy's global generator."""
        from art.attacks.evasion import AutoProjectedGradientDescent

        def attack(x: np.ndarray, labels: np.ndarray, radius: Any) -> np.ndarray:
            (largest,) = np.unique(radius).tolist()
            options = {"norm": 2, "max_iter": steps, "nb_random_init": starts, "batch_size": len(x)}
            method = AutoProjectedGradientDescent(
                self._estimator(loss), eps=largest, eps_step=2 * largest, verbose=False, **options
            )
            keras.utils.set_random_seed(seed)
            return method.generate(x, labels)

        return attack

    def deepfool(self, loss: Any) -> Attack:
        """ART's DeepFool with its authors' overshoot of 0.02; it looks for any label change and heeds no radius."""
        from art.attacks.evasion import DeepFool

        def attack(x: np.ndarray, labels: np.ndarray, radius: Any) -> np.ndarray:
            method = DeepFool(self._estimator(loss), epsilon=0.02, batch_size=len(x), verbose=False)
            return method.generate(x)

        return attack

    def _estimator(self, loss: Any) -> Any:
        from art.estimators.classification import TensorFlowV2Classifier

        return TensorFlowV2Classifier(
            model=self._network,
            nb_classes=self._classes,
            input_shape=self._network.input_shape[1:],
            loss_object=loss,
        )


class Margin:
    """Our attack's loss as ART takes one: minus the margin of each image, from one-hot labels and logits."""

    reduction = "none"  # ART sets it; one number an image serves its purposes

    def __call__(self, labels: Any, logits: Any) -> Any:
        return -supervised.margin(logits, ops.argmax(labels, axis=-1))


# Measuring ------------------------------------------------------------------------------------------------


def nearest(
    network: keras.Model, attack: Attack, x: np.ndarray, labels: np.ndarray, radii: Sequence[float]
) -> np.ndarray:
    """Length of the label change that one attack at each radius finds, (radii, batch): infinite where it finds none."""
    return np.stack([attack_distance(network, attack, x, labels, largest=r, rounds=0) for r in radii])


def outcome(
    network: keras.Model, attacks: LibraryAttacks, x: np.ndarray, labels: np.ndarray, protocol: dict[str, Any]
) -> dict[str, Any]:
    """What our attack and ART's reach on images ``x`` that all have their ``labels``: see :mod:`attack_reports`."""
    radii, steps = protocol["radii"], protocol["steps"]
    margin, usual = Margin(), keras.losses.CategoricalCrossentropy(from_logits=True)
    ours = attacker(network, steps=steps)
    bisected: dict[str, Attack] = {
        "same": attacks.gradient_descent(margin, steps=steps),
        "usual": attacks.gradient_descent(usual, steps=steps),
    }
    strong, fool = attacks.auto_gradient_descent(margin), attacks.deepfool(margin)

    def distance(attack: Attack) -> np.ndarray:
        return attack_distance(network, attack, x, labels, largest=FARTHEST)

    found, reached = nearest(network, ours, x, labels, radii), distance(ours)
    theirs: dict[str, tuple[np.ndarray | None, np.ndarray]] = {
        name: (nearest(network, a, x, labels, radii), distance(a)) for name, a in bisected.items()
    }
    stronger = nearest(network, strong, x, labels, radii)
    theirs["strong"] = stronger, stronger.min(axis=0)
    theirs["deepfool"] = None, nearest(network, fool, x, labels, [1.0])[0]
    safe = SAFE * certified_radius(network.predict(x, verbose=0), float(lipschitz_bound(network)))
    return {
        "reached": reached,
        "attacks": {
            name: {
                "radii": attack_reports.by_radius(found, at, radii) if at is not None else [],
                "distance": attack_reports.by_distance(reached, far),
                "broken_certificates": int(np.sum(far < safe)),
            }
            for name, (at, far) in theirs.items()
        },
    }


# The three classifiers ------------------------------------------------------------------------------------


def chosen(recorded: Iterable[dict[str, Any]], strengths: dict[str, float]) -> list[dict[str, Any]]:
    """The recorded runs of the protocol's methods at their ``strengths``, in its order: the MLP with the most images."""
    recorded = [run for run in recorded if run["parameters"]["network"] == "mlp"]
    most = max((run["parameters"]["train"] for run in recorded), default=0)

    def fits(p: dict[str, Any], method: str) -> bool:
        return (p["method"], p["strength"], p["batch"], p["seed"]) == (method, strengths[method], 64, 0)

    return [
        run
        for m in PROTOCOL["methods"]
        for run in recorded
        if fits(run["parameters"], m)
        and run["parameters"]["train"] == most
        and not run["parameters"]["noise"]
    ]


def retrained(p: dict[str, Any]) -> tuple[keras.Model, data.Dataset]:
    """The network of the run with parameters ``p``, trained as ``notebooks/runs/classify.md`` does, and its images."""
    images = supervised.split(data.load(p["dataset"]), p["train"], seed=p["seed"], noise=p["noise"])
    settings = supervised.Settings(
        p["method"], p["strength"], p["batch"], p["epochs"], p["learning_rate"], p["seed"], p["epochs"]
    )
    network = classifiers.build(
        p["network"], images.x_train.shape[1:], int(images.y_test.max()) + 1, p["width"], seed=p["seed"],
        kernel_regularizer=supervised.kernel_penalty(p["method"], p["strength"]),
    )  # fmt: skip
    supervised.train(network, images, settings)
    return network, images


def _checked(run: dict[str, Any], known: np.ndarray, protocol: dict[str, Any]) -> dict[str, Any]:
    """One recorded run: trained again, and attacked; ``known`` are its recorded distances."""
    network, images = retrained(run["parameters"])
    count = run["parameters"]["attacked"]
    x, labels = data.to_float(images.x_test[:count]), images.y_test[:count]
    right = network.predict(x, verbose=0).argmax(axis=1) == labels
    found = outcome(
        network, LibraryAttacks(network, network.output_shape[-1]), x[right], labels[right], protocol
    )
    off = np.abs(found.pop("reached") - known[right])
    return {
        "run": run["run"],
        "images": count,
        "right": int(right.sum()),
        "off_the_record": float(off.max()),
        **found,
    }


def report(protocol: dict[str, Any] = PROTOCOL, profile: str = "cpu") -> dict[str, Any]:
    """Everything, from the recorded runs of ``profile``."""
    machine.make_deterministic()
    folder = paths.runs(profile)
    runs = chosen(records.read(folder, "classify"), results.chosen(profile))
    known = [records.read_arrays(folder, "classify", run["run"])["distance"] for run in runs]
    versions = keras_reports.versions("numpy", "keras", "tensorflow", LIBRARY)
    found = [_checked(run, distances, protocol) for run, distances in zip(runs, known, strict=True)]
    return {"protocol": protocol, "versions": versions, "classifiers": found}


def main(arguments: Sequence[str], make: Callable[[], dict[str, Any]] = report) -> None:
    """Command line: print the report, or keep it with ``--record``; a missing ART is said before anything is trained."""
    try:
        LibraryAttacks(keras.Sequential(), 1)
    except (ImportError, RuntimeError) as error:
        raise SystemExit(str(error)) from error
    made = make()
    if "--record" in arguments:
        records.write(attack_reports.FOLDER, "art", made)
    print(json.dumps(made, indent=1, allow_nan=False))


if __name__ == "__main__":
    main(sys.argv[1:])

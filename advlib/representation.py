"""Where points lie among the clusters of their classes: in the logits, or in any other space."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.neighbors import KNeighborsClassifier

from advlib._checks import check_integer, check_labels


@dataclass(frozen=True, eq=False)
class Clusters:
    """Labelled points of k classes, with the centre and the spread of each class.

    Attributes
    ----------
    points : array, float64, (n, d)
    labels : array, integer, (n,)
    radii : array, float64, (n,)
        Distance of each point from the centre of its class.
    centres : array, float64, (k, d)
        Means of the classes.
    spreads : array, float64, (k,)
        Root mean square of the radii of a class.
    """

    points: np.ndarray
    labels: np.ndarray
    radii: np.ndarray
    centres: np.ndarray
    spreads: np.ndarray


def clusters(points: np.ndarray, labels: np.ndarray, *, classes: int = 10) -> Clusters:
    """Measure the cluster of each class.

    Parameters
    ----------
    points : array, float, (n, d)
        For instance logits, from `networks.predict_logits`.
    labels : array, integer, (n,)
        Their classes, from 0 to `classes` - 1.
    classes : int
        How many classes there are, at least 2.

    Returns
    -------
    Clusters

    Raises
    ------
    ValueError
        If points or labels are not of that form, or a class has fewer than two different points: it
        would have no spread.
    """
    points = _check_points(points, "points")
    classes = check_integer(classes, "classes", low=2)
    labels = check_labels(labels, len(points), classes)
    radii, centres, spreads = (
        np.empty(len(points)),
        np.empty((classes, points.shape[1])),
        np.empty(classes),
    )
    for label in range(classes):  # one at a time: a copy of all points may be too much
        members = labels == label
        if not members.any():
            raise ValueError(f"points must hold two different ones of each class, but not of {label}")
        centres[label] = points[members].mean(axis=0)
        radii[members] = np.linalg.norm(points[members] - centres[label], axis=1)
        spreads[label] = np.sqrt(np.mean(radii[members] ** 2))
        if not spreads[label] > 0:
            raise ValueError(f"points must hold two different ones of each class, but not of {label}")
    return Clusters(points, labels, radii, centres, spreads)


def nearest_class(clusters: Clusters, points: np.ndarray, *, neighbours: int = 10) -> np.ndarray:
    """In whose region points lie: the class of most of their nearest neighbours.

    Parameters
    ----------
    clusters : Clusters
        As `clusters` returns it.
    points : array, float, (m, d)
    neighbours : int
        How many have a vote. In a tie the smallest class wins.

    Returns
    -------
    array, integer, (m,)

    Raises
    ------
    ValueError
        If the points are not of that form, or there are not as many neighbours.
    """
    points = _check_points(points, "points", clusters.points.shape[1])
    neighbours = check_integer(neighbours, "neighbours", high=len(clusters.points))
    return KNeighborsClassifier(neighbours).fit(clusters.points, clusters.labels).predict(points)


def centre_distances(clusters: Clusters, points: np.ndarray) -> np.ndarray:
    """Distances of points from all centres, each in units of the spread of its class.

    A typical member of a class lies about 1 from its own centre.

    Parameters
    ----------
    clusters : Clusters
        As `clusters` returns it.
    points : array, float, (m, d)

    Returns
    -------
    array, float64, (m, k)

    Raises
    ------
    ValueError
        If the points are not of that form.
    """
    points = _check_points(points, "points", clusters.points.shape[1])
    return cdist(points, clusters.centres) / clusters.spreads


def depths(clusters: Clusters, points: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """How deep points lie in the cluster of a class: the share of its members farther from its centre.

    1 at the centre, 0 outside of all members; one half on average for points drawn like the members.

    Parameters
    ----------
    clusters : Clusters
        As `clusters` returns it.
    points : array, float, (m, d)
    classes : array, integer, (m,)
        The class in question, for each point.

    Returns
    -------
    array, float64, (m,)
        From 0 to 1.

    Raises
    ------
    ValueError
        If points or classes are not of that form.
    """
    points = _check_points(points, "points", clusters.points.shape[1])
    classes = check_labels(classes, len(points), len(clusters.centres), "classes")
    return shares_above(
        clusters.radii,
        clusters.labels,
        np.linalg.norm(points - clusters.centres[classes], axis=1),
        classes,
    )


def leads(logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    r"""How far the logit of a class is ahead of all others: :math:`Z_c - \max_{j \ne c} Z_j`.

    Positive where c is predicted; 0 on the border, from which, in the space of the logits, a point
    with a positive lead lies away by the lead divided by :math:`\sqrt 2`.

    Parameters
    ----------
    logits : array, float, (m, k)
    classes : array, integer, (m,)
        The class in question, for each point.

    Returns
    -------
    array, float64, (m,)

    Raises
    ------
    ValueError
        If logits or classes are not of that form.
    """
    logits = _check_points(logits, "logits")
    if logits.shape[1] < 2:
        raise ValueError(f"logits must have at least two classes, got shape {logits.shape}")
    classes = check_labels(classes, len(logits), logits.shape[1], "classes")
    own = np.arange(logits.shape[1]) == classes[:, None]
    return logits[own] - np.where(own, -np.inf, logits).max(axis=1)


def shares_above(
    reference: np.ndarray, labels: np.ndarray, values: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """Share of the members of a class whose value is larger than a given one.

    Parameters
    ----------
    reference : array, float, (n,)
        The members' values.
    labels : array, integer, (n,)
        The members' classes, not negative.
    values : array, float, (m,)
        Each is compared with the members of one class.
    classes : array, integer, (m,)
        With which.

    Returns
    -------
    array, float64, (m,)
        From 0 to 1. A member with the same value does not count.

    Raises
    ------
    ValueError
        If the arrays are not of that form, or a class has no member.
    """
    reference, values = _check_vector(reference, "reference"), _check_vector(values, "values")
    # Of any number of classes: only their form is checked.
    labels = check_labels(labels, len(reference), np.iinfo(np.int64).max)
    classes = check_labels(classes, len(values), np.iinfo(np.int64).max, "classes")
    shares = np.empty(len(values))
    for label in np.unique(classes):
        members = np.sort(reference[labels == label])
        if not len(members):
            raise ValueError(f"labels must hold every one of the classes, but hold no {label}")
        some = classes == label
        shares[some] = 1 - np.searchsorted(members, values[some], side="right") / len(members)
    return shares


def _check_vector(values: Any, name: str) -> np.ndarray:
    """Return finite numbers (n,) as float64."""
    array = np.asarray(values)
    if array.dtype.kind not in "iuf" or array.ndim != 1:
        raise ValueError(f"{name} must be a vector of numbers, got {array.dtype} of shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    return array.astype(np.float64)


def _check_points(points: Any, name: str, size: int | None = None) -> np.ndarray:
    """Return points (n, d) as float64; d is `size`, where that is given."""
    array = np.asarray(points)
    if array.dtype.kind not in "iuf" or array.ndim != 2 or size not in (None, array.shape[1]):
        wanted = "(n, d)" if size is None else f"(n, {size})"
        raise ValueError(
            f"{name} must be numbers of shape {wanted}, got {array.dtype} of shape {array.shape}"
        )
    if array.size == 0:
        raise ValueError(f"{name} must hold at least one point, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    return array.astype(np.float64)

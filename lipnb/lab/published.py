"""Numbers that others have published, to stand beside the book's own and never as a target."""

from __future__ import annotations

from IPython.display import display

from lipnb.lab.tables import Table

__all__ = ["beside", "show_beside"]

# Miyato et al. 2018 (arXiv 1802.05957), Table 2: inception score and FID on CIFAR-10.
CIFAR10 = (
    ("real images", "11.24 ± 0.12", "7.8"),
    ("weight clipping", "6.41 ± 0.11", "42.6"),
    ("gradient penalty, log loss", "6.93 ± 0.08", "37.7"),
    ("gradient penalty, Wasserstein loss", "6.68 ± 0.06", "40.2"),
    ("spectral normalization, log loss", "7.42 ± 0.08", "29.3"),
    ("spectral normalization, hinge loss", "7.58 ± 0.12", "25.5"),
    ("spectral normalization, hinge loss, ResNet", "8.22 ± 0.05", "21.7 ± 0.21"),
)


def beside(dataset: str) -> Table | None:
    """What has been published on ``dataset``: a table for CIFAR-10, nothing elsewhere."""
    if dataset != "cifar10":
        return None
    caption = (
        "Published on CIFAR-10 (Miyato et al. 2018, Table 2): their networks, 100,000 updates of the generator, the original "
        "Inception weights. Levels do not compare with this book's; the order of the methods may"
    )
    return Table(["method", "inception score", "FID"], CIFAR10, caption)


def show_beside(dataset: str) -> None:
    """Display :func:`beside`, where there is something."""
    if table := beside(dataset):
        display(table)

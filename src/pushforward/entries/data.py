"""Built-in data sets."""

from .base import table

__all__ = ["DATASETS"]

# fmt: off
DATASETS = {
    **table(
        "pushforward.data.toys",
        ("moons", "moons", "two half circles that interlock, 2 labels"),
        ("8gaussians", "eight_gaussians", "eight normal distributions on a circle, 8 labels"),
        ("circles", "circles", "two rings, 2 labels"),
        ("checkerboard", "checkerboard", "uniform on eight squares"),
        ("pinwheel", "pinwheel", "five bent arms, 5 labels", "Johnson et al. 2016, arXiv 1603.06277"),
        ("spirals", "spirals", "two spiral arms, 2 labels"),
        ("swissroll", "swissroll", "the side of a Swiss roll"),
        ("scurve", "scurve", "the letter S"),
        ("gaussian", "gaussian", "one correlated normal distribution"),
        drawn=True,
    ),
    **table(
        "pushforward.data.builtin",
        ("digits", "digits", "1,797 handwritten digits, 8 x 8 pixels, 10 labels",
         "Alpaydin & Kaynak 1998, doi 10.24432/C50P49"),
        ("iris", "iris", "150 flowers, 4 columns, 3 labels", "Fisher 1936, doi 10.24432/C56C76"),
        ("wine", "wine", "178 wines, 13 columns, 3 labels", "Aeberhard & Forina 1992, doi 10.24432/C5PC7J"),
        ("breast-cancer", "breast_cancer", "569 tumours, 30 columns, 2 labels",
         "Wolberg et al. 1993, doi 10.24432/C5DW2B"),
        ("diabetes", "diabetes", "442 patients, 10 columns, condition `progression`",
         "Efron et al. 2004, doi 10.1214/009053604000000067"),
    ),
}

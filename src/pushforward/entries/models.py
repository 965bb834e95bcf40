"""Networks, normalizing flows, the sources of these, and divergences of velocity fields."""

from .base import table

__all__ = ["BASES", "DIVERGENCES", "FLOWS", "NETWORKS", "TOKENS"]

# fmt: off
NETWORKS = table(
    "pushforward.nn",
    ("mlp", "MLP", "plain multilayer perceptron on (t, x)"),
    ("resmlp", "ResidualMLP", "residual perceptron, Fourier features of x and t"),
    ("unet", "UNet", "compact U-Net for (C, H, W)", "Ronneberger et al. 2015, arXiv 1505.04597"),
    ("transformer", "TokenTransformer", "transformer over tokens",
     "Vaswani et al. 2017, arXiv 1706.03762"),
    ("text-transformer", "TextTransformer", "the same for text, by distances",
     "Su et al. 2021, arXiv 2104.09864"),
)

TOKENS = table(
    "pushforward.paths",
    ("masked", "MaskedTokens", "from a mask, tokens appear one by one",
     "Campbell et al. 2024, arXiv 2402.04997"),
    ("uniform", "UniformTokens", "from uniform noise, tokens are drawn again and again",
     "Gat et al. 2024, arXiv 2407.15595"),
    ("diffused", "DiffusedTokens", "the same, by the reversal of noising: a tight bound",
     "Austin et al. 2021, arXiv 2107.03006"),
    ("metric", "MetricTokens", "from uniform noise, levels come nearer by a distance",
     "Shaul et al. 2024, arXiv 2412.03487"),
    ("walk", "WalkTokens", "the same for levels, by the reversal of a walk: a tight bound",
     "Austin et al. 2021, arXiv 2107.03006"),
    ("embedded", "EmbeddedTokens", "from normal noise to unit vectors that are learnt, and to the nearest",
     "Dieleman et al. 2022, arXiv 2211.15089"),
    ("simplex", "SimplexTokens", "from the simplex to its corners, along geodesics of Fisher and Rao",
     "Davis et al. 2024, arXiv 2405.14664"),
)

FLOWS = {
    **table(
        "pushforward.flows",
        ("nice", "nice", "additive coupling layers, then a scale", "Dinh et al. 2015, arXiv 1410.8516"),
        ("realnvp", "realnvp", "affine coupling layers", "Dinh et al. 2017, arXiv 1605.08803"),
        ("nsf", "nsf", "rational-quadratic coupling layers", "Durkan et al. 2019, arXiv 1906.04032"),
        small="layers=4,width=32",
        one_column="nsf-ar",
    ),
    **table(
        "pushforward.flows",
        ("maf", "maf", "masked affine autoregressive, slow to sample",
         "Papamakarios et al. 2017, arXiv 1705.07057"),
        ("iaf", "iaf", "inverse affine autoregressive, slow to score and to train on data",
         "Kingma et al. 2016, arXiv 1606.04934"),
        small="layers=2,width=32",
        one_column="nsf-ar",
    ),
    **table(
        "pushforward.flows",
        ("nsf-ar", "nsf_ar", "autoregressive rational-quadratic splines, slow to sample",
         "Durkan et al. 2019, arXiv 1906.04032"),
        small="layers=2,width=32",
    ),
    **table(
        "pushforward.flows",
        ("residual", "residual", "residual flow: layers x + g(x), g a contraction, slow to sample",
         "Chen et al. 2019, arXiv 1906.02735"),
        small="layers=4",
    ),
    **table(
        "pushforward.flows",
        ("vae", "VAE", "variational autoencoder; its density is a lower bound",
         "Kingma & Welling 2014, arXiv 1312.6114"),
        ("glow", "glow", "images: coupling layers and 1x1 convolutions at several scales",
         "Kingma & Dhariwal 2018, arXiv 1807.03039"),
        ("tarflow", "tarflow", "images: autoregressive transformers over patches, slow to sample",
         "Zhai et al. 2024, arXiv 2412.06329"),
        own_source=True,
    ),
}

BASES = table(
    "pushforward.sources",
    ("normal", "Normal", "the standard normal distribution, the default"),
    ("student-t", "StudentT", "heavy tails, with learnt degrees of freedom",
     "Jaini et al. 2020, arXiv 1907.04481"),
    ("mixture", "LearntMixture", "a learnt mixture of normal distributions",
     "Izmailov et al. 2020, arXiv 1912.13025"),
)

DIVERGENCES = table(
    "pushforward.flows",
    ("exact", "Exact", "exact, a derivative for each element of an event",
     "Chen et al. 2018, arXiv 1806.07366"),
    ("hutchinson", "Hutchinson", "estimate from random directions",
     "Grathwohl et al. 2019, arXiv 1810.01367"),
    ("hutchpp", "HutchPlusPlus", "estimate that is exact on the range of large derivatives",
     "Meyer et al. 2021, arXiv 2010.09649"),
)

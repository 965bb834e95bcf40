"""Recipes, and the methods: names for sets of their defaults."""

from .base import Entry, Method
from .models import FLOWS

__all__ = ["METHODS", "RECIPES", "by_likelihood"]

_LIPMAN = "Lipman et al. 2023, arXiv 2210.02747"
_TONG = "Tong et al. 2024, arXiv 2302.00482"
_BRIDGES = "Tong et al. 2024, arXiv 2307.03672"
_SONG = f"Song et al. 2021, arXiv 2011.13456, and {_LIPMAN}"
_DIFFUSION = "Song et al. 2021, arXiv 2011.13456"
_SLICED = "Song et al. 2019, arXiv 1905.07088"
_XU = "Xu, Cheng & Xie 2023, arXiv 2212.14424"
_VRF = "Guo & Schwing 2025, arXiv 2502.09616"
_DINH = "Dinh et al. 2017, arXiv 1605.08803"
_FFJORD = "Grathwohl et al. 2019, arXiv 1810.01367"
_RFM = "Chen & Lipman 2024, arXiv 2302.03660"
_BOFFI = "Boffi et al. 2025, arXiv 2505.18825"
_CAMPBELL = "Campbell et al. 2024, arXiv 2402.04997"
_VFM = "Eijkelboom et al. 2024, arXiv 2406.04843"
_REFLOW = "Liu et al. 2023, arXiv 2209.03003, and Lee et al. 2024, arXiv 2405.20320"

# fmt: off
RECIPES = {
    "flow-matching": Entry("pushforward.recipes.matching:Matching",
                           "regression on the velocities of a path", _LIPMAN),
    "bridge-matching": Entry("pushforward.recipes.bridges:Bridges",
                             "regression on velocity and score of Brownian bridges", _BRIDGES),
    "scores": Entry("pushforward.recipes.scores:Scores",
                    "denoising score matching along the path of a diffusion", _DIFFUSION),
    "sliced-scores": Entry("pushforward.recipes.scores:Slices",
                           "sliced score matching along the path of a diffusion", _SLICED),
    "variational": Entry("pushforward.recipes.variational:Variational",
                         "flow matching with a latent that tells crossing paths apart", _VRF),
    "maximum-likelihood": Entry("pushforward.recipes.likelihood:Likelihood",
                                "training by the likelihood, for normalizing flows", _DINH),
    "continuous-likelihood": Entry("pushforward.recipes.cnf:Continuous",
                                   "training of a velocity field by the likelihood of its flow", _FFJORD),
    "flow-maps": Entry("pushforward.recipes.flow_maps:FlowMaps",
                       "training of a map between any two times, for one step or a few", _BOFFI),
    "discrete": Entry("pushforward.recipes.discrete:Discrete",
                      "posteriors of tokens that jump from masks or noise to the data", _CAMPBELL),
    "points": Entry("pushforward.recipes.points:Points",
                    "posteriors of tokens whose points vectors move to", _VFM),
    "manifolds": Entry("pushforward.recipes.manifolds:Manifolds",
                       "flow matching along geodesics of a manifold", _RFM),
    "blocks": Entry("pushforward.recipes.blocks:Blocks",
                    "training of a continuous flow block by block, as steps of a gradient flow", _XU),
}
# fmt: on


def by_likelihood(name: str, flow: Entry) -> Method:
    """The method that trains a registered flow."""
    return Method(flow.summary, flow.paper, {"flow": name}, "maximum-likelihood", not flow.own_source)


# fmt: off
METHODS = {
    "fm": Method("flow matching on straight paths", _LIPMAN, on_spaces="rfm", on_text="dfm"),
    "i-cfm": Method("conditional flow matching, independent coupling, noise 0.1", _TONG,
                    {"coupling": "independent", "gamma": "0.1"}),
    "ot-cfm": Method("conditional flow matching, minibatch optimal transport", _TONG, {"coupling": "ot"}),
    "sb-cfm": Method("probability flow of the Schroedinger bridge: entropic plan, Brownian bridges", _TONG,
                     {"coupling": "sinkhorn", "gamma": "brownian,sigma=0.5"}),
    "sf2m": Method("velocity and score of the Schroedinger bridge, for its ODE or its SDE", _BRIDGES,
                   {"coupling": "sinkhorn", "gamma": "brownian,sigma=0.5"}, "bridge-matching"),
    "vp": Method("variance preserving diffusion path, noise prediction", _SONG,
                 {"path": "vp", "prediction": "noise"}),
    "ve": Method("variance exploding diffusion path, noise prediction", _SONG,
                 {"path": "ve,sigma_max=10", "prediction": "noise"}),
    "ddpm": Method("diffusion in discrete time, linear betas, noise prediction",
                   "Ho et al. 2020, arXiv 2006.11239",
                   {"path": "ddpm", "prediction": "noise", "times": "discrete"}, "scores"),
    "ddpm-cosine": Method("diffusion in discrete time, cosine betas, noise prediction",
                          "Nichol & Dhariwal 2021, arXiv 2102.09672",
                          {"path": "ddpm,betas=cosine", "prediction": "noise", "times": "discrete"},
                          "scores"),
    "dsm": Method("denoising score matching under the weight of the likelihood, variance preserving",
                  "Song et al. 2021, arXiv 2101.09258",
                  {"path": "vp", "prediction": "score", "times": "log-snr"}, "scores"),
    "sub-vp": Method("sub-variance preserving diffusion, noise prediction", _DIFFUSION,
                     {"path": "sub-vp", "prediction": "noise"}, "scores"),
    "edm": Method("variance exploding diffusion with preconditioning, log-normal noise levels",
                  "Karras et al. 2022, arXiv 2206.00364",
                  {"path": "edm", "prediction": "v", "times": "edm"}, "scores"),
    "ssm": Method("sliced score matching, variance preserving", _SLICED,
                  {"path": "vp", "prediction": "noise"}, "sliced-scores"),
    "rectified-flow": Method("flow matching, then a round of reflow; with --distil a map of one step",
                             _REFLOW, {"reflow": 1}),
    "vrf": Method("variational rectified flow: a latent drawn once resolves crossing paths", _VRF, {},
                  "variational"),
    "c2ot": Method("optimal transport that keeps conditions with their rows",
                   "Cheng & Schwing 2025, arXiv 2503.10636", {"coupling": "c2ot"}),
    "semidiscrete-ot": Method("optimal transport to the whole data set, fitted once",
                              "Mousavi-Hosseini et al. 2025, arXiv 2509.25519", {"coupling": "semidiscrete"}),
    "cnf": Method("continuous normalizing flow, a neural ODE trained by its likelihood",
                  "Chen et al. 2018, arXiv 1806.07366", {}, "continuous-likelihood"),
    "ffjord": Method("the same with Hutchinson's estimate of the divergence", _FFJORD,
                     {"divergence": "hutchinson"}, "continuous-likelihood"),
    "flow-map": Method("flow map for one step or a few, by Lagrangian self-distillation", _BOFFI,
                       {"loss": "lagrangian"}, "flow-maps"),
    "meanflow": Method("flow map by the mean velocities of pairs", "Geng et al. 2025, arXiv 2505.13447",
                       {"loss": "mean-flow"}, "flow-maps"),
    "imf": Method("flow map by improved MeanFlow", "Geng et al. 2025, arXiv 2512.02012",
                  {"loss": "improved-mean-flow"}, "flow-maps"),
    "alpha-flow": Method("flow map by a curriculum from trajectories to MeanFlow, without derivatives",
                         "Zhang et al. 2025, arXiv 2510.20771", {"loss": "alpha-flow"}, "flow-maps"),
    "shortcut": Method("flow map over dyadic steps, each two of half its length",
                       "Frans et al. 2024, arXiv 2410.12557", {"loss": "shortcut"}, "flow-maps"),
    "consistency": Method("leaps to the data from any time, which agree along trajectories",
                          "Song & Dhariwal 2024, arXiv 2310.14189",
                          {"loss": "consistency"}, "flow-maps", False),
    "dfm": Method("discrete flow matching: levels as tokens, from masks by default", _CAMPBELL,
                  {"tokens": "masked"}, "discrete", False),
    "embedding-flow": Method("flow matching of tokens as learnt vectors, rounded to the nearest",
                             "Li et al. 2022, arXiv 2205.14217, and Dieleman et al. 2022, arXiv 2211.15089",
                             {"tokens": "embedded"}, "points", False),
    "fisher-flow": Method("flow matching of tokens over the simplex, Fisher-Rao metric",
                          "Davis et al. 2024, arXiv 2405.14664", {"tokens": "simplex"}, "points", False),
    "rfm": Method("Riemannian flow matching on the manifold that --space names", _RFM, {},
                  "manifolds", False),
    "jko-iflow": Method("continuous normalizing flow trained block by block, as JKO steps to noise", _XU,
                        {}, "blocks", False),
    **{name: by_likelihood(name, flow) for name, flow in FLOWS.items()},
}

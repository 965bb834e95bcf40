"""Whatever a run folder says, opening it runs no code that is not of the library."""

import base64
import copy
import hashlib
import importlib
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import pushforward
from effort import among, first
from pushforward import registry
from pushforward.cli import main
from pushforward.config import RunConfig
from pushforward.inference import carry
from pushforward.paths import Linear
from pushforward.recipes import open_run
from pushforward.recipes.parts import COMPONENTS
from pushforward.report import build, compare_text

#: Says that code of a file has run.
MARK = "PWNED"
EVIL = f"""
from pathlib import Path
from pushforward import Schedule, Solver, Source
Path({MARK!r}).write_text("imported")
class Evil(Schedule):
    def __init__(self, strength: float = 1.0): self.strength = strength
    def __call__(self, t): return t**self.strength, 1 - t, self.strength * t**(self.strength - 1), -1 + 0 * t
def evil(*arguments, **options): Path({MARK!r}).write_text("called")
"""
#: Texts that run code where they are taken for the name of something to call or to import.
CALLS = (
    f"os:system,command='touch {MARK}'",
    f"subprocess:Popen,args=['touch', '{MARK}']",
    f'builtins:exec,source=\'open("{MARK}", "w")\'',
    "evil:Evil",
    "evil:Evil,strength=2",
    "evil:evil,strength=2",
    "evil:Evil.__call__",
    " evil : Evil",
    "evil",
    "module://evil",
    "pushforward.registry:create,kind='path',spec='evil:Evil'",
    f"__import__('evil'), open('{MARK}', 'w')",
    f"cos\nsystem\n(S'touch {MARK}'\ntR.",
    f"!!python/object/apply:os.system ['touch {MARK}']",
)
MARKUP = (
    '"\'><script>alert(1)</script><img src=x onerror=alert(1)><a href="javascript:alert(1)">\x1b[31m\u202e'
)
SMALL = "--rows 120 --batch 32 --steps 4 --log-every 1 --no-report --validate-every 2".split()
RUNS = {
    "fm": "moons --condition label --gamma brownian,sigma=0.3 --network mlp,width=8,depth=1 --folds 2 "
    "--times late,power=2 --weighting power,early=1 --coupling c2ot,ratio=0.1 --solver heun,steps=2",
    "nsf": "moons --method nsf --flow nsf,layers=2,width=8,bins=4 --base student-t --patience 3",
    "reflow": "moons --method rectified-flow --teacher teacher --pairs 64 --network mlp,width=8,depth=1 "
    "--solver heun,steps=2 --source normal --distil",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with runs, and with a module whose import leaves a mark, which Python would find."""
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        teacher = "moons --network mlp,width=8,depth=1 --solver heun,steps=2 --source normal --out teacher"
        for command in (teacher, *(f"{told} --out {name}" for name, told in RUNS.items())):
            assert main(["train", *command.split(), *SMALL]) == 0
        assert main(["report", "nsf", "--samples", "60"]) == 0
        (folder / "evil.py").write_text(EVIL)
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture(autouse=True)
def unmarked(place):
    """No test leaves a mark."""
    yield
    found = (place / MARK).exists(), "evil" in sys.modules
    (place / MARK).unlink(missing_ok=True)
    sys.modules.pop("evil", None)
    assert found == (False, False)


def entries(data, path=()):
    """The paths of all entries of plain data; of a list the first two."""
    items = data.items() if isinstance(data, dict) else enumerate(data[:2]) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from entries(value, (*path, key))


def changed(data, path, value):
    data = copy.deepcopy(data)
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return data


def entry(data, path):
    for key in path:
        data = data[key]
    return data


class Text:
    """A file of JSON, of one object or of one a line, or of safetensors with JSON in its header."""

    def __init__(self, file: Path):
        self.file, self.bytes = file, file.read_bytes()
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as opened:
                header = opened.metadata() or {}
            self.tensors = load_file(file)
            self.data = {key: json.loads(value) for key, value in header.items()}
        elif file.suffix == ".jsonl":
            self.data = [json.loads(line) for line in self.bytes.decode().splitlines()]
        else:
            self.data = json.loads(self.bytes)

    def write(self, data):
        if self.file.suffix == ".safetensors":
            save_file(self.tensors, self.file, {key: json.dumps(value) for key, value in data.items()})
        elif self.file.suffix == ".jsonl":
            self.file.write_text("".join(json.dumps(line) + "\n" for line in data))
        else:
            self.file.write_text(json.dumps(data))

    def restore(self):
        self.file.write_bytes(self.bytes)


def texts(folder: Path) -> list[Text]:
    files = [f for f in sorted(folder.rglob("*")) if f.suffix in (".json", ".jsonl", ".safetensors")]
    found = [Text(file) for file in files]
    return [text for text in found if text.data]


def opens(path, file="") -> bool:
    """Whether a run opens, or its report can be compared; where not, the error is one that says why."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compare_text(path, path) if file == "report.json" else open_run(path)
            return True
        except ValueError as error:
            assert str(error)
            return False


@pytest.mark.parametrize("name", among(RUNS, ["nsf"]))
def test_no_entry_of_any_file_is_run_when_a_run_is_opened(place, name):
    count = 0
    for text in texts(place / name):
        try:
            for number, path in enumerate(entries(text.data)):
                value = CALLS[number % len(CALLS)]
                old = entry(text.data, path)
                for hostile in (value, "evil:Evil", {"class": value, "name": value}, [value]):
                    if isinstance(hostile, str) or type(hostile) is type(old):
                        text.write(changed(text.data, path, hostile))
                        opens(name, text.file.name)
                        count += 1
        finally:
            text.restore()
    assert opens(name) and count > 100


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("key", COMPONENTS)
def test_components_of_a_run_are_registered_ones(place, name, key, capsys):
    """Every command refuses the folder in one line that names file, entry and text."""
    text = Text(place / name / "config.json")
    try:
        for hostile in CALLS:
            text.write(changed(text.data, ("model", key), hostile))
            with pytest.raises(ValueError, match=rf"^{name}.config.json: model.{key}: .*"):
                pushforward.load(name)
            if hostile not in CALLS[:4]:
                continue
            with pytest.raises(ValueError, match=r"--trust|expected a name|unknown"):
                pushforward.load(name)
            capsys.readouterr()
            train = ["train", *RUNS[name].split(), "--out", name, *SMALL]
            for command in (
                ["sample", name],
                ["push", name, "moons"],
                ["score", name, "moons"],
                ["report", name],
                train,
            ):
                assert main(command) == 2, command
                told = capsys.readouterr().err
                assert told.count("\n") == 1 and key in told and hostile.partition(",")[0] in told, told
            assert main(["info", name]) == 2
            assert not (place / "samples.csv").exists() and not (place / "scores.csv").exists()
    finally:
        text.restore()


def test_a_teacher_is_opened_as_any_run_is(place, capsys):
    text = Text(place / "teacher" / "config.json")
    try:
        text.write(changed(text.data, ("model", "path"), "evil:Evil"))
        command = ["train", *RUNS["reflow"].split(), "--out", "new", *SMALL]
        assert main(command) == 2
        assert "teacher/config.json: model.path: --path 'evil:Evil'" in capsys.readouterr().err
        assert not (place / "new").exists()
        with pytest.raises(ValueError, match="trust"):
            pushforward.train("moons", "new", method="rectified-flow", teacher="teacher", rows=120, steps=4)
    finally:
        text.restore()


def own_scripts(html: str) -> list[str]:
    """Scripts that the page's policy allows by their hash, and data without markup."""
    found = re.findall(r"<script([^>]*)>(.*?)</script>", html, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for _, text in found]
    policy = re.findall(r"script-src 'sha256-([^']+)'", html)[:1]
    return [
        text
        for (kind, text), digest in zip(found, hashes)
        if digest in policy or (kind == ' type="application/json"' and "<" not in text)
    ]


def test_texts_that_are_shown_are_shown_as_text(place, capsys):
    """All texts of a run that may be anything hold markup at once, and the report is a page without any."""
    files = [text for text in texts(place / "nsf") if text.file.suffix == ".json"]
    told = 0
    try:
        for text in files:
            data = text.data
            for path in entries(data):
                if isinstance(entry(data, path), str):
                    text.write(changed(data, path, MARKUP))
                    if opens("nsf", text.file.name):
                        data, told = changed(data, path, MARKUP), told + 1
            text.write(data)
        assert told > 5
        capsys.readouterr()
        status = [
            main(["info", "nsf"]),
            main(["compare", "nsf", "nsf"]),
            main(["report", "nsf", "--samples", "60"]),
        ]
        assert set(status) <= {0, 2} and 0 in status
        printed = capsys.readouterr()
        assert not {"\x1b", "\u202e"} & {*printed.out, *printed.err}
        for page in (place / "nsf" / "report.html", place / "comparison.html"):
            html = page.read_text()
            assert "<img src=x" not in html and "<a " not in html
            assert html.count("<script") == len(own_scripts(html)), "a script that is not the page's own"
            assert "\x1b" not in html and "\u202e" not in html
        assert "&lt;script&gt;" in (place / "comparison.html").read_text()
    finally:
        for text in files:
            text.restore()


# What a user names is another matter.


def test_classes_that_are_trusted_by_name_work_in_every_command(place, monkeypatch, capsys):
    """A run of a class of one's own is opened with that name, or that class, and works until its end."""
    (place / "their_paths.py").write_text(EVIL.replace(f'Path({MARK!r}).write_text("imported")', ""))
    train = (
        "moons --path their_paths:Evil,strength=2 --network mlp,width=8 --source normal --solver heun,steps=2"
    )
    assert main(["train", *train.split(), "--out", "own", *SMALL]) == 0
    assert main(["sample", "own"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert (
        "own/config.json: model.path" in line
        and "--trust their_paths:Evil" in line
        and "trust=['their_paths" in line
    )
    trust = ["--trust", "their_paths:Evil"]
    for command in (["sample", "own"], ["push", "own", "moons"], ["push", "own", "moons", "--back"]):
        assert main([*command, *trust]) == 0
    assert main(["score", "own", "moons", "--flag-below", "0.1", *trust, "--trust", "their_paths:Other"]) == 0
    assert main(["report", "own", "--samples", "40", *trust]) == 0
    capsys.readouterr()
    assert main(["info", "own", *trust]) == 0
    assert "pushforward report own --trust their_paths:Evil" in capsys.readouterr().out
    assert main(["info", "own"]) == 2

    their_paths = importlib.import_module("their_paths")

    for names in ([their_paths.Evil], ["their_paths:Evil"]):
        run = open_run("own", trust=names)
        assert carry(run, run.dataset.test).isfinite().all()
        assert pushforward.load("own", trust=names).sample(2).shape == (2, 2)
    for names in ([Linear], ["their_paths:Other"], []):
        with pytest.raises(ValueError, match=r"own.config\.json: model\.path"):
            open_run("own", trust=names)
    wrong: Any
    for wrong in ("their_paths:Evil", ["os"], [5], ["their_paths.py:Evil "]):
        with pytest.raises(ValueError, match=r"^trust: expected"):
            open_run("own", trust=wrong)
    run = pushforward.train(
        "moons",
        path="their_paths:Evil,strength=2",
        network="mlp,width=8",
        source="normal",
        solver="heun,steps=2",
        rows=120,
        steps=2,
        show_progress=False,
    )
    assert build(run, samples=40).exists()  # without a word more: the settings have named it


def test_a_class_is_known_by_every_name_that_it_has(place):
    """A module that passes a class on does not hide it from who trusts the class itself."""
    (place / "passed_on.py").write_text("from pushforward import Linear as Mine\n")
    train = "moons --path passed_on:Mine --network mlp,width=8,depth=1 --folds 0 --source normal"
    assert main(["train", *train.split(), "--out", "passed", *SMALL]) == 0
    assert open_run("passed", trust=[Linear]).flow.sample(1).shape == (1, 2)
    with pytest.raises(ValueError, match="trust"):
        open_run("passed")


@pytest.mark.parametrize(
    "flag, text, told",
    [
        ("--network", "math:pi", "expected a subclass of pushforward.nn.Network, got 3.14"),
        ("--network", "torch.nn:Linear", "expected a subclass of pushforward.nn.Network"),
        ("--network", "my_nothing:Net", "No module named 'my_nothing'"),
        ("--path", f"os:system,command='touch {MARK}'", "expected a subclass of pushforward.paths.Schedule"),
        ("--path", "leaving:Path", "leaving"),
        ("--path", "broken:Path", "division by zero"),
        ("--path", "pushforward.paths:Schedule", "abstract"),
        ("--path", "pushforward.paths:Linear,strength=2", "unknown option"),
        ("--gamma", "pushforward.paths:Linear", "expected a subclass of pushforward.paths.Gamma"),
        ("--gamma", "nan", "unknown gamma"),
        ("--solver", "collections:OrderedDict", "expected a subclass of pushforward.solvers.Solver"),
        ("--solver", "os.path:join", "expected a subclass"),
        ("--solver", "euler:", "expected a name, or module:Class"),
        ("--solver", "pushforward.solvers:Euler.solve", "expected a name, or module:Class"),
        ("--solver", "ｏｓ:system", "expected a name, or module:Class"),
        ("--coupling", "builtins:dict", "expected a subclass of pushforward.couplings.Coupling"),
        ("--times", "builtins:eval", "expected a subclass of pushforward.objectives.Times"),
        ("--weighting", "builtins:eval", "expected a subclass of pushforward.objectives.Weighting"),
    ],
)
def test_what_is_named_on_the_command_line_is_of_its_kind(place, capsys, flag, text, told):
    (place / "leaving.py").write_text("import sys; sys.exit('leaving')\n")
    (place / "broken.py").write_text("1 / 0\n")
    out = place / "refused"
    assert main(["train", "moons", flag, text, "--out", str(out), *SMALL]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and told in error and len(error) < 400, error
    assert not out.exists()


@pytest.mark.parametrize(
    "kind, spec, told",
    [
        ("solver", "euler,steps=True", "steps: expected a whole number, got true"),
        ("solver", "euler,steps=2.0", "steps: expected a whole number, got 2.0"),
        ("solver", "euler,steps='2'", "steps: expected a whole number"),
        ("solver", "euler,steps=None", "steps: expected a whole number, got null"),
        ("solver", "euler,steps=1000000000000", "steps: expected at most 1,000,000"),
        ("solver", "euler,steps=10**12", "steps: expected a whole number"),
        ("solver", "euler,steps=1,steps=2", "option 'steps' is given twice"),
        ("solver", "euler,steps", "expected option=value"),
        ("solver", "euler,grid=[0, True]", "grid"),
        ("solver", "euler,grid=[0, 'a']", "grid"),
        ("solver", "dopri5,rtol=1e999", "rtol: expected a finite number"),
        ("solver", "dopri5,rtol=nan", "rtol"),
        ("path", "polynomial,power=1j", "power: expected a number"),
        ("network", "mlp,activation=5", "activation: expected text"),
        ("network", "mlp,condition=5", "unknown option 'condition'"),
        ("network", "mlp,event_shape=5", "unknown option 'event_shape'"),
        ("network", "mlp,self=5", "unknown option 'self'"),
        ("network", "mlp,width=1000000000", "width: expected at most"),
        ("coupling", "semidiscrete,progress=print", "unknown option 'progress'"),
        ("coupling", "dataset,inner=None", "unknown option 'inner'"),
        ("flow", "nsf,source=None", "unknown option 'source'"),
        ("solver", "euler,steps=" + "(" * 900, "steps: expected a whole number"),
        ("solver", "euler,steps=" + "9" * 10**7, "expected at most 1000 characters"),
        ("solver", "euler,steps=" + "9" * 900, "steps: expected a whole number of at most"),
        ("solver", "euler,steps=\x00", "steps"),
    ],
)
def test_options_are_of_the_types_of_the_constructor(kind, spec, told):
    arguments = ((2,), None) if kind in ("network", "flow") else ()
    with pytest.raises(ValueError) as raised:
        registry.create(kind, spec, *arguments)
    error = str(raised.value)
    assert told in error and error.startswith(f"--{kind} ") and len(error) < 300 and error.isprintable()


def test_options_of_the_right_types_are_taken():
    assert registry.create("solver", "dopri5,rtol=1,first_step=None").rtol == 1
    assert registry.create("solver", "euler,grid=[0, 0.5, 1]") is not None
    assert registry.create("network", "unet,multipliers=(1, 2, 2)", (1, 8, 8), None) is not None


@pytest.mark.parametrize(
    "setting, spec",
    [
        ("network", "mlp,width=10000,depth=9"),
        ("network", "mlp,depth=10000"),
        ("network", "mlp,width=10001"),
        ("network", "unet,multipliers=(1000, 1000)"),
        ("flow", "nsf,layers=1000000"),
        ("flow", "maf,width=100000"),
        ("flow", "maf,depth=1000000"),
        ("base", "mixture,components=1000000"),
    ],
)
def test_sizes_are_known_before_memory_is_taken(place, setting, spec, capsys):
    method = {"network": "fm", "flow": spec.partition(",")[0], "base": "nsf"}[setting]
    command = ["train", "digits" if "unet" in spec else "moons", "--method", method, f"--{setting}", spec]
    assert main([*command, "--out", "large", "--steps", "4", "--no-report"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "expected at most" in error and f"--{setting} '{spec}'" in error
    assert not (place / "large").exists()


# What else might import or run by name.


def test_arrays_with_objects_in_them_are_refused(place):
    class Evil:
        def __reduce__(self):
            return (Path.write_text, (Path(MARK), "unpickled"))

    np.save("evil.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    np.savez("evil.npz", x=np.array([Evil()], dtype=object))
    torch.save(Evil(), "evil.pt")
    for file in ("evil.npy", "evil.npz", "evil.pt"):
        assert main(["train", file, "--out", "refused", *SMALL]) == 2
        with pytest.raises(ValueError):
            pushforward.load(file)


@pytest.mark.parametrize(
    "told", ["evil:Evil", "torch.nn.modules..evil:Evil", "torch.nn.modules.module:warnings"]
)
def test_a_flow_in_one_file_names_classes_of_the_library_alone(place, told):
    pushforward.save(pushforward.load("nsf"), "flow.safetensors")
    text = Text(place / "flow.safetensors")
    assert isinstance(text.data, dict)
    (key,) = (key for key, value in text.data.items() if "objects" in json.dumps(value))
    holder = text.data[key] if "objects" in text.data[key] else next(iter(text.data[key].values()))
    for number in range(len(holder["objects"])):
        data = copy.deepcopy(text.data)
        inner = data[key] if "objects" in data[key] else next(iter(data[key].values()))
        inner["objects"][number]["class"] = told
        text.write(data)
        with pytest.raises(ValueError):
            pushforward.load("flow.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("start", first([["-m", "pushforward"], ["-m", "pushforward.cli"], None]))
def test_modules_of_the_working_folder_are_not_imported(place, tmp_path, start):
    """A stranger's `torch.py`, or a module that a library looks for and does not find, is not run."""
    marking = f"open({str(tmp_path / MARK)!r}, 'w')\n"
    for name in (
        "torch",
        "numpy",
        "tyro",
        "msgspec",
        "rich",
        "IPython",
        "psutil",
        "setuptools",
        "triton",
        "sitecustomize",
        "lightning",
    ):
        (tmp_path / f"{name}.py").write_text(marking)
    (tmp_path / "matplotlibrc").write_text("backend: module://evil\naxes.facecolor: red\n")
    command = [sys.executable, *start] if start else [str(Path(sys.executable).parent / "pushforward")]
    run = str(place / "nsf")
    arguments = ["sample", run, "-n", "2"] if start else ["report", run, "--samples", "40"]
    done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / MARK).exists()


def test_the_configuration_of_a_run_that_names_a_class_is_still_read(place):
    """Reading a configuration runs nothing, so who wants to know what it names may ask."""
    text = Text(place / "fm" / "config.json")
    config = RunConfig.from_json(cast(dict[str, Any], changed(text.data, ("model", "path"), "evil:Evil")))
    assert registry.own_classes(config.model.path) == ("evil:Evil",)
